//! A part of an update: what it holds of some clients only.

use super::lib0::{LibError, Reader, put_uint};
use super::update::{UpdateInfo, block};
use bytes::Bytes;

/// The update without the blocks of the clients that `drop` names; what it deletes stays.
///
/// # Errors
/// [`LibError`] where [`super::inspect`] gives one.
pub fn without(update: &[u8], drop: impl Fn(u64) -> bool) -> Result<Bytes, LibError> {
    let mut reader = Reader::new(update);
    let at = |reader: &Reader<'_>| update.len() - reader.remaining();
    let mut kept = Vec::new();
    for _ in 0..reader.count()? {
        let start = at(&reader);
        let blocks = reader.count()?;
        let client = reader.uint()?;
        reader.clock()?;
        for _ in 0..blocks {
            block(&mut reader, &mut UpdateInfo::default())?;
        }
        if !drop(client) {
            kept.push(start..at(&reader));
        }
    }
    let mut part = Vec::with_capacity(update.len());
    put_uint(&mut part, kept.len() as u64);
    for section in kept {
        part.extend_from_slice(&update[section]);
    }
    part.extend_from_slice(&update[at(&reader)..]);
    Ok(part.into())
}

#[cfg(test)]
mod tests {
    use super::super::{Edit, FIRST_SERVER_CLIENT, SharedText, inspect};
    use super::*;

    #[test]
    fn one_clients_blocks_go_the_rest_is_as_it_was() {
        let seed = SharedText::seed(FIRST_SERVER_CLIENT, "one two\n");
        let mut ann = SharedText::load([seed.as_ref()]).unwrap();
        let mut bob = SharedText::load([seed.as_ref()]).unwrap();
        let insert = |at, text: &str| vec![Edit { at, delete: 1, insert: text.into() }];
        for (update, _) in ann.edit(&insert(0, "ann")).unwrap() {
            bob.apply(&update).unwrap();
        }
        bob.edit(&insert(5, "bob")).unwrap();
        let both = bob.encode_since(&[(FIRST_SERVER_CLIENT, u32::MAX >> 2)]);
        let part = without(&both, |client| client == ann.client()).unwrap();
        let (whole, rest) = (inspect(&both).unwrap(), inspect(&part).unwrap());
        assert_eq!(rest.deletes, whole.deletes);
        assert!(whole.ranges.iter().any(|range| range.client == ann.client()));
        assert!(rest.ranges.iter().all(|range| range.client == bob.client()));
        assert_eq!(without(&both, |_| false).unwrap(), both);
        assert!(without(&both[..both.len() / 2], |_| false).is_err());
    }
}
