//! Pages of an answer: where the next one begins.
//!
//! A token holds the place of the page's last row in the order, not a number of rows: rows that come or go elsewhere move nothing, so a row that stays as it is
//! is on exactly one page. It holds values of that row, like the page itself, and is not to be logged.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use prost::Message as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::{InvalidField, proto::serving as proto};

/// What a token that cannot be used is told.
const RULE: &str =
    "must be next_page_token of an answer to the same question: only page_size and freshness may differ";

/// Which page is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// Rows at most.
    pub size: i64,
    /// Behind this place; `None`: the first page.
    pub after: Option<Place>,
    /// Up to where in PostgreSQL's log the page before shows what was committed, where it can be read at several servers: a page is not read before that. Of an answer, the
    /// same for the next one.
    pub read_until: Option<u64>,
    question: u64,
}

/// A row's place in the order of the question, and how much of its limit is left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Text of each column's value that the question orders by; `None` is null.
    pub order: Vec<Option<String>>,
    /// Id of the resource.
    pub id: String,
    /// Number of the row within it.
    pub row: i32,
    /// Rows that may follow, if the question has a limit.
    pub left: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Token {
    question: u64,
    place: Place,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    read_until: Option<u64>,
}

impl Page {
    /// Of a request: `None` if it asks for no pages.
    pub(crate) fn of(request: &proto::QueryRequest) -> Result<Option<Self>, InvalidField> {
        let size = match (request.page_size, request.page_token.is_empty()) {
            (0, true) => return Ok(None),
            (1.., _) => request.page_size,
            (0, false) => return Err(InvalidField::new("page_size", "must be set with page_token")),
            _ => return Err(InvalidField::new("page_size", "must be 0, for no pages, or more")),
        };
        for (unfit, field, rule) in [
            (request.count_only, "count_only", "has no pages"),
            (
                request.max_resources != 0,
                "max_resources",
                "has no pages, as the latest resources change from page to page: use limit",
            ),
        ] {
            if unfit {
                return Err(InvalidField::new(field, rule));
            }
        }
        let question = fingerprint(request);
        let (after, read_until) = match request.page_token.as_str() {
            "" => (None, None),
            token => {
                let token = read(token)
                    .filter(|token| {
                        token.question == question && token.place.order.len() == request.order.len()
                    })
                    .ok_or_else(|| InvalidField::new("page_token", RULE))?;
                (Some(token.place), token.read_until)
            }
        };
        Ok(Some(Self {
            size,
            after,
            read_until,
            question,
        }))
    }

    /// The token of the page behind this place.
    pub fn token(&self, place: Place) -> String {
        let token = Token {
            question: self.question,
            place,
            read_until: self.read_until,
        };
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
    }
}

fn read(token: &str) -> Option<Token> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()
}

/// The same for the pages of one question, whatever their size.
fn fingerprint(request: &proto::QueryRequest) -> u64 {
    let question = proto::QueryRequest {
        page_token: String::new(),
        page_size: 0,
        freshness: None,
        ..request.clone()
    };
    let digest = Sha256::digest(question.encode_to_vec());
    digest
        .iter()
        .take(8)
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> proto::QueryRequest {
        proto::QueryRequest {
            view: "v".into(),
            page_size: 2,
            order: vec![proto::Order {
                column: "a".into(),
                descending: true,
            }],
            ..Default::default()
        }
    }

    fn place() -> Place {
        Place {
            order: vec![Some("Łódź \"🙂\"".into())],
            id: "x.1".into(),
            row: 3,
            left: Some(7),
        }
    }

    #[test]
    fn a_token_leads_to_its_place_and_only_in_its_own_question() {
        let page = Page::of(&request()).unwrap().unwrap();
        let next = |change: fn(&mut proto::QueryRequest)| {
            let mut next = proto::QueryRequest {
                page_token: page.token(place()),
                page_size: 50,
                ..request()
            };
            change(&mut next);
            Page::of(&next)
        };
        let found = next(|_| {}).unwrap().unwrap();
        assert_eq!((found.size, found.after), (50, Some(place())));
        assert!(next(|request| request.freshness = Some(proto::FreshnessDemand::default())).is_ok());
        let changes: [fn(&mut proto::QueryRequest); 4] = [
            |request| request.view = "w".into(),
            |request| request.order.clear(),
            |request| request.limit = 9,
            |request| request.page_token.truncate(10),
        ];
        for change in changes {
            assert_eq!(next(change).unwrap_err().field, "page_token");
        }
    }

    #[test]
    fn a_token_says_how_far_the_server_had_come() {
        let mut page = Page::of(&request()).unwrap().unwrap();
        let next = |page: &Page| {
            let next = proto::QueryRequest {
                page_token: page.token(place()),
                ..request()
            };
            Page::of(&next).unwrap().unwrap().read_until
        };
        assert_eq!(next(&page), None);
        page.read_until = Some(0x1_6b37_4d48);
        assert_eq!(next(&page), Some(0x1_6b37_4d48));
    }

    #[test]
    fn what_has_no_pages_is_refused() {
        let refused = |change: fn(&mut proto::QueryRequest)| {
            let mut request = request();
            change(&mut request);
            Page::of(&request).unwrap_err().field
        };
        assert_eq!(refused(|request| request.page_size = -1), "page_size");
        assert_eq!(refused(|request| request.count_only = true), "count_only");
        assert_eq!(refused(|request| request.max_resources = 1), "max_resources");
        assert_eq!(
            refused(|request| (request.page_size, request.page_token) = (0, "x".into())),
            "page_size"
        );
    }
}
