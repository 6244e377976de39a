//! A stream's items cut into messages of a size that is good to send.

/// Bytes of a message, about.
pub(crate) const MESSAGE: usize = 1024 * 1024;

/// Items, in their order, in messages of about 1 MiB, at least one in each; none make no message.
pub(crate) fn messages<T>(items: impl IntoIterator<Item = T>, bytes_of: impl Fn(&T) -> usize) -> Vec<Vec<T>> {
    let (mut messages, mut bytes) = (Vec::<Vec<T>>::new(), 0_usize);
    for item in items {
        let more = bytes_of(&item);
        bytes = bytes.saturating_add(more);
        match messages.last_mut() {
            Some(message) if bytes <= MESSAGE => message.push(item),
            _ => {
                bytes = more;
                messages.push(vec![item]);
            }
        }
    }
    messages
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_by_bytes_and_none_is_empty() {
        let lengths = |items: Vec<usize>| {
            messages(items, |bytes| *bytes)
                .iter()
                .map(Vec::len)
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(vec![10; 500]), [500]);
        assert_eq!(lengths(vec![MESSAGE / 2; 5]), [2, 2, 1]);
        assert_eq!(lengths(vec![MESSAGE * 2; 3]), [1, 1, 1]);
        assert_eq!(lengths(vec![]), [0; 0]);
    }
}
