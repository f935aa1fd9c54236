//! Reading and writing lib0's encoding, as all Yjs protocols use it. Reads are bounded by the bytes at hand: nothing is
//! ever allocated from a declared count.

/// Bytes that are not what the protocol says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LibError {
    /// They end too early.
    #[error("the message is cut off")]
    Truncated,
    /// A number is too large for what it counts.
    #[error("a number is out of range")]
    Range,
    /// A string is not UTF-8.
    #[error("a string is not UTF-8")]
    Utf8,
    /// A value that has no meaning here.
    #[error("an unknown or forbidden value")]
    Value,
    /// Something follows the end.
    #[error("bytes after the end of the message")]
    Trailing,
}

type Result<T> = std::result::Result<T, LibError>;

/// Reads from the front of a slice.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(super) fn finish(&self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(LibError::Trailing) }
    }

    pub(super) fn byte(&mut self) -> Result<u8> {
        let (first, rest) = self.rest.split_first().ok_or(LibError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    pub(super) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(LibError::Truncated)?;
        self.rest = rest;
        Ok(taken)
    }

    /// An unsigned number below 2^53, as much as JavaScript has.
    pub(super) fn uint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        let mut shift = 0;
        loop {
            let byte = self.byte()?;
            if shift > 49 || (shift == 49 && byte & 0x7F > 0x0F) {
                return Err(LibError::Range);
            }
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
            shift += 7;
        }
    }

    /// An unsigned number below 2^31: yrs casts clocks to `i32` in places.
    pub(super) fn clock(&mut self) -> Result<u32> {
        u32::try_from(self.uint()?).ok().filter(|clock| *clock < 1 << 31).ok_or(LibError::Range)
    }

    /// A count of things of which each takes at least one byte.
    pub(super) fn count(&mut self) -> Result<usize> {
        let count = usize::try_from(self.uint()?).map_err(|_| LibError::Range)?;
        if count > self.rest.len() { Err(LibError::Truncated) } else { Ok(count) }
    }

    /// Bytes led by their length.
    pub(super) fn bytes(&mut self) -> Result<&'a [u8]> {
        let len = self.count()?;
        self.take(len)
    }

    pub(super) fn string(&mut self) -> Result<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| LibError::Utf8)
    }

    /// Skips a signed number.
    pub(super) fn skip_int(&mut self) -> Result<()> {
        let mut left = 10;
        while self.byte()? & 0x80 != 0 {
            left -= 1;
            if left == 0 {
                return Err(LibError::Range);
            }
        }
        Ok(())
    }
}

pub(super) fn put_uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7F).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}

pub(super) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_read_back(value in 0_u64..1 << 53) {
            let mut out = Vec::new();
            put_uint(&mut out, value);
            let mut reader = Reader::new(&out);
            prop_assert_eq!(reader.uint(), Ok(value));
            prop_assert!(reader.is_empty());
        }
    }

    #[test]
    fn too_large_and_endless_numbers_are_errors() {
        assert_eq!(Reader::new(&[0xFF; 20]).uint(), Err(LibError::Range));
        let mut out = Vec::new();
        put_uint(&mut out, 1 << 53);
        assert_eq!(Reader::new(&out).uint(), Err(LibError::Range));
        assert_eq!(Reader::new(&[0x80]).uint(), Err(LibError::Truncated));
        assert_eq!(Reader::new(&[5, 1]).bytes(), Err(LibError::Truncated));
    }
}
