//! What the library under our services says of a request that never reached them: in its own words, without details, and mostly as INTERNAL, as if it were a fault
//! of ours. Here it is said as an error of the caller's, in our words.

use tonic::Status;

use crate::{Code, ServiceError};

/// What the library's texts begin with where bytes are not the message that they should be; the places follow, innermost first: `Filter.filter: `.
const UNDECODABLE: &str = "failed to decode Protobuf message: ";

/// What is wrong with a request that could not be read, or not be sent to any method. `None`: this status was not made by the library.
pub fn refusal(status: &Status) -> Option<ServiceError> {
    // Each status of ours has details.
    if !status.details().is_empty() {
        return None;
    }
    Some(match status.code() {
        tonic::Code::OutOfRange | tonic::Code::ResourceExhausted => ServiceError::new(
            Code::TooLarge,
            "the request is larger than this service takes: ask for less at once",
        ),
        tonic::Code::Unimplemented if status.message().is_empty() => ServiceError::new(
            Code::NoSuchMethod,
            "there is no such method: reflection says which there are",
        ),
        tonic::Code::Unimplemented => {
            ServiceError::new(Code::Unimplemented, "grpc-encoding: must be identity or gzip")
        }
        tonic::Code::Internal | tonic::Code::Unknown => unreadable(status.message()),
        _ => return None,
    })
}

/// Of the library's text only the places are told: they are names of the contract.
fn unreadable(text: &str) -> ServiceError {
    let Some(text) = text.strip_prefix(UNDECODABLE) else {
        let message =
            "the request cannot be read: no whole message, or packed in another way than grpc-encoding says";
        return ServiceError::new(Code::Invalid, message);
    };
    let mut path: Vec<&str> = text
        .split(": ")
        .map_while(|place| place.split_once('.'))
        .filter(|(message, field)| is_word(message) && is_word(field))
        .map(|(_, field)| field)
        .collect();
    path.reverse();
    let rule =
        "it is not what the contract has: of another type, not UTF-8, cut off, or nested more than 100 deep";
    if path.is_empty() {
        return ServiceError::new(Code::Invalid, format!("the request cannot be read: {rule}"));
    }
    // A path as deep as the request would tell nothing more.
    path.truncate(8);
    ServiceError::invalid(path.join("."), rule)
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::proto::serving::QueryRequest;

    #[test]
    fn the_place_of_what_cannot_be_decoded_is_told_and_nothing_of_what_it_is() {
        // Field 10 (freshness), 6 bytes: field 3 (layers) as text.
        let bytes = [0x52, 6, 0x1a, 4, b'J', b'a', b'n', b'e'];
        let error = QueryRequest::decode(&bytes[..]).expect_err("layers is no text");
        let said = refusal(&Status::internal(error.to_string())).expect("it is the library's");
        assert_eq!(said.code, Code::Invalid);
        assert_eq!(said.field.as_deref(), Some("freshness.layers"));
        // A number from the bytes themselves.
        let error = QueryRequest::decode(&[0xff; 9][..]).expect_err("garbage");
        let said = refusal(&Status::internal(error.to_string())).expect("it is the library's");
        assert_eq!((said.code, said.field), (Code::Invalid, None));
        assert!(!error.to_string().contains(&said.message), "{}", said.message);
    }

    #[test]
    fn what_a_service_says_stays() {
        let ours = Status::from(ServiceError::new(
            Code::Internal,
            "internal error: see the service's log",
        ));
        assert_eq!(refusal(&ours), None);
        assert_eq!(
            refusal(&Status::new(
                tonic::Code::NotFound,
                "a service that health does not know"
            )),
            None
        );
    }
}
