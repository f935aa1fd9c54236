//! Frames of the SDK's socket: one MessagePack map each. Nothing of a frame is built before it is known to be small
//! enough: what a frame of 64 MiB could be made into would be a hundred times as large.

use rmp::Marker;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::ops::Range;

/// Values of one frame: strings, numbers, lists, maps and what is in them.
pub const MAX_VALUES: usize = 100_000;
/// Lists and maps within one another.
pub const MAX_DEPTH: usize = 32;

/// Why a frame is no request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too early.
    #[error("it ends too early")]
    Short,
    /// Something comes after it.
    #[error("there is something behind it")]
    Long,
    /// More than [`MAX_VALUES`].
    #[error("it holds more than {MAX_VALUES} values")]
    Values,
    /// Deeper than [`MAX_DEPTH`].
    #[error("its lists and maps are more than {MAX_DEPTH} deep")]
    Depth,
    /// Extension types and the like.
    #[error("it holds a type that is not used here")]
    Type,
    /// Text that is no UTF-8.
    #[error("it holds text that is no UTF-8")]
    Text,
    /// No map with `method` and `id`.
    #[error("a request is a map with `method`, `id` and perhaps `params`")]
    Envelope,
}

/// A request as it came. `params` is encoded still: `nil` where there are none.
#[derive(Debug, PartialEq, Eq)]
pub struct Request<'a> {
    /// Chosen by the client, counted up.
    pub id: u64,
    /// Such as `fs/readFile`.
    pub method: &'a str,
    /// Where in the frame its params are.
    pub params: Range<usize>,
}

/// Goes through encoded values without building them.
struct Scan<'a> {
    bytes: &'a [u8],
    at: usize,
    values: usize,
}

impl<'a> Scan<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], Malformed> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.bytes.len()).ok_or(Malformed::Short)?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn number(&mut self, bytes: usize) -> Result<usize, Malformed> {
        Ok(self.take(bytes)?.iter().fold(0, |sum, byte| (sum << 8) | usize::from(*byte)))
    }

    fn marker(&mut self) -> Result<Marker, Malformed> {
        self.values += 1;
        if self.values > MAX_VALUES {
            return Err(Malformed::Values);
        }
        Ok(Marker::from_u8(self.take(1)?[0]))
    }

    fn text(&mut self, len: usize) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.take(len)?).map_err(|_| Malformed::Text)
    }

    /// Reads one string; `None` where something else is, which is read no further than its marker.
    fn string(&mut self) -> Result<Option<&'a str>, Malformed> {
        let marker = self.marker()?;
        let Some(len) = self.text_len(marker)? else { return Ok(None) };
        self.text(len).map(Some)
    }

    fn text_len(&mut self, marker: Marker) -> Result<Option<usize>, Malformed> {
        Ok(Some(match marker {
            Marker::FixStr(len) => usize::from(len),
            Marker::Str8 => self.number(1)?,
            Marker::Str16 => self.number(2)?,
            Marker::Str32 => self.number(4)?,
            _ => return Ok(None),
        }))
    }

    /// Goes past one value, with all in it.
    fn value(&mut self) -> Result<(), Malformed> {
        // What is still to come of each list and map that is open.
        let mut open: Vec<usize> = vec![1];
        while let Some(left) = open.last_mut() {
            if *left == 0 {
                open.pop();
                continue;
            }
            *left -= 1;
            let marker = self.marker()?;
            if let Some(len) = self.text_len(marker)? {
                self.text(len)?;
                continue;
            }
            let inner = match marker {
                Marker::Null | Marker::True | Marker::False | Marker::FixPos(_) | Marker::FixNeg(_) => 0,
                Marker::U8 | Marker::I8 => self.take(1).map(|_| 0)?,
                Marker::U16 | Marker::I16 => self.take(2).map(|_| 0)?,
                Marker::U32 | Marker::I32 | Marker::F32 => self.take(4).map(|_| 0)?,
                Marker::U64 | Marker::I64 | Marker::F64 => self.take(8).map(|_| 0)?,
                Marker::Bin8 => self.bytes_of(1)?,
                Marker::Bin16 => self.bytes_of(2)?,
                Marker::Bin32 => self.bytes_of(4)?,
                Marker::FixArray(len) => usize::from(len),
                Marker::Array16 => self.number(2)?,
                Marker::Array32 => self.number(4)?,
                Marker::FixMap(len) => 2 * usize::from(len),
                Marker::Map16 => 2 * self.number(2)?,
                Marker::Map32 => self.number(4)?.saturating_mul(2),
                _ => return Err(Malformed::Type),
            };
            if inner > 0 {
                if open.len() > MAX_DEPTH {
                    return Err(Malformed::Depth);
                }
                open.push(inner);
            }
        }
        Ok(())
    }

    fn bytes_of(&mut self, len_bytes: usize) -> Result<usize, Malformed> {
        let len = self.number(len_bytes)?;
        self.take(len).map(|_| 0)
    }
}

/// A whole number at the start of encoded bytes, however it is written.
fn whole(bytes: &[u8]) -> Option<u64> {
    let mut at = bytes;
    if let Ok(number) = rmp::decode::read_int::<u64, _>(&mut at) {
        return Some(number);
    }
    let number = rmp::decode::read_f64(&mut { bytes }).ok()?;
    let is_whole = number >= 0.0 && number.fract() == 0.0 && number < 9.0e15;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "looked at just above")]
    is_whole.then_some(number as u64)
}

/// Reads the envelope of a request, and looks through all of it. `Err`: with the request's id where it has one, so that
/// whoever waits for an answer gets it.
///
/// # Errors
/// [`Malformed`].
pub fn request(frame: &[u8]) -> Result<Request<'_>, (Malformed, Option<u64>)> {
    let mut scan = Scan { bytes: frame, at: 0, values: 0 };
    let (mut id, mut method, mut params) = (None, None, None);
    let mut read = || {
        let keys = match scan.marker()? {
            Marker::FixMap(len) => usize::from(len),
            Marker::Map16 => scan.number(2)?,
            Marker::Map32 => scan.number(4)?,
            _ => return Err(Malformed::Envelope),
        };
        for _ in 0..keys {
            let key = scan.string()?.ok_or(Malformed::Envelope)?;
            let start = scan.at;
            scan.value()?;
            let value = start..scan.at;
            match key {
                "id" => id = whole(&frame[value]),
                "method" => {
                    method = Scan { bytes: frame, at: value.start, values: 0 }.string()?;
                }
                "params" => params = Some(value),
                _ => {}
            }
        }
        if scan.at == frame.len() { Ok(()) } else { Err(Malformed::Long) }
    };
    let outcome = read();
    match (outcome, id, method) {
        (Ok(()), Some(id), Some(method)) => {
            Ok(Request { id, method, params: params.unwrap_or(frame.len()..frame.len()) })
        }
        (Ok(()), id, _) => Err((Malformed::Envelope, id)),
        (Err(error), id, _) => Err((error, id)),
    }
}

/// Params as a method wants them: `nil` and none are an empty map.
///
/// # Errors
/// What is wrong with them, in words.
pub(in crate::compat) fn params<P: DeserializeOwned>(encoded: &[u8]) -> Result<P, String> {
    const NOTHING: &[u8] = &[0x80];
    let encoded = if encoded.is_empty() || encoded == [0xc0] { NOTHING } else { encoded };
    rmp_serde::from_slice(encoded).map_err(|error| error.to_string())
}

/// A value as MessagePack: structs as maps.
///
/// # Errors
/// Types that have no such form; those here have one.
pub(in crate::compat) fn encode(value: &(impl Serialize + ?Sized)) -> Result<Vec<u8>, String> {
    rmp_serde::to_vec_named(value).map_err(|error| error.to_string())
}

// Written part by part: writing to a `Vec` does not fail.
fn text(frame: &mut Vec<u8>, text: &str) {
    let _ = rmp::encode::write_str(frame, text);
}

fn head(id: Option<u64>, method: &str, status: u8) -> Vec<u8> {
    let mut frame = Vec::with_capacity(64);
    let _ = rmp::encode::write_map_len(&mut frame, 4);
    text(&mut frame, "id");
    match id {
        Some(id) => drop(rmp::encode::write_uint(&mut frame, id)),
        None => drop(rmp::encode::write_nil(&mut frame)),
    }
    text(&mut frame, "method");
    text(&mut frame, method);
    text(&mut frame, "status");
    frame.push(status);
    frame
}

/// An answer with an encoded result.
#[must_use]
pub(super) fn success(id: u64, method: &str, result: &[u8]) -> Vec<u8> {
    let mut frame = head(Some(id), method, 0);
    text(&mut frame, "result");
    frame.extend_from_slice(result);
    frame
}

/// A refusal with an encoded `{code, message, data?}`. `id`: none when the request's could not be read.
#[must_use]
pub(super) fn failure(id: Option<u64>, method: &str, error: &[u8]) -> Vec<u8> {
    let mut frame = head(id, method, 1);
    text(&mut frame, "error");
    frame.extend_from_slice(error);
    frame
}

/// Something nobody asked for.
#[must_use]
pub(super) fn notification(method: &str, params: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(32 + params.len());
    let _ = rmp::encode::write_map_len(&mut frame, 2);
    text(&mut frame, "method");
    text(&mut frame, method);
    text(&mut frame, "params");
    frame.extend_from_slice(params);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rmpv::Value;
    use serde_bytes::ByteBuf;
    use serde_json::json;

    /// The bytes that a line of hexadecimal digits and quoted words names.
    fn bytes(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in text.split_whitespace() {
            match word.strip_prefix('\'') {
                Some(word) => {
                    bytes.push(0xa0 | u8::try_from(word.len()).unwrap());
                    bytes.extend_from_slice(word.as_bytes());
                }
                None => {
                    let digits: Vec<_> = word.as_bytes().chunks(2).collect();
                    bytes.extend(
                        digits.iter().map(|digit| {
                            u8::from_str_radix(std::str::from_utf8(digit).unwrap(), 16).unwrap()
                        }),
                    );
                }
            }
        }
        bytes
    }

    #[derive(serde::Deserialize)]
    struct Write {
        path: String,
        content: ByteBuf,
        create: Option<bool>,
        overwrite: Option<bool>,
        more: Option<String>,
    }

    #[derive(serde::Deserialize)]
    struct Nothing {}

    #[derive(Serialize)]
    struct Content {
        content: ByteBuf,
    }

    #[test]
    fn a_request_is_read_as_the_packages_send_it() {
        let frame = bytes(
            "83 a6 6d6574686f64 ac 66732f777269746546696c65
             a6 706172616d73 84 a4 70617468 a1 61 a7 636f6e74656e74 c4 02 4869
             a6 637265617465 c3 a9 6f7665727772697465 c3 a2 6964 04",
        );
        let read = request(&frame).unwrap();
        assert_eq!((read.id, read.method), (4, "fs/writeFile"));
        let write: Write = params(&frame[read.params]).unwrap();
        assert_eq!((write.path.as_str(), write.content.as_ref()), ("a", &b"Hi"[..]));
        assert_eq!((write.create, write.overwrite, write.more), (Some(true), Some(true), None));
        // `nil`, nothing at all, a map of nothing; the id first, or as a float.
        for frame in [
            "83 'id 00 'method 'setup/init 'params c0",
            "82 'method 'setup/init 'id cb 0000000000000000",
            "83 'params 80 'id d3 0000000000000000 'method 'setup/init",
        ] {
            let frame = bytes(frame);
            let read = request(&frame).unwrap();
            assert_eq!((read.id, read.method), (0, "setup/init"));
            params::<Nothing>(&frame[read.params]).unwrap();
        }
    }

    #[test]
    fn answers_and_notifications_are_written_as_the_packages_read_them() {
        let refusal = encode(&json!({ "code": 2, "message": "read-only session" })).unwrap();
        assert_eq!(
            failure(Some(4), "fs/writeFile", &refusal),
            bytes(
                "84 a2 6964 04 a6 6d6574686f64 ac 66732f777269746546696c65 a6 737461747573 01
                 a5 6572726f72 82 a4 636f6465 02 a7 6d657373616765 b1 726561642d6f6e6c792073657373696f6e"
            )
        );
        let content = encode(&Content { content: ByteBuf::from(*b"Hi\n") }).unwrap();
        assert_eq!(
            success(3, "fs/readFile", &content),
            bytes(
                "84 a2 6964 03 a6 6d6574686f64 ab 66732f7265616446696c65 a6 737461747573 00
                 a6 726573756c74 81 a7 636f6e74656e74 c4 03 48690a"
            )
        );
        let out = encode(&json!({ "shellId": "s1", "out": "hi\r\n" })).unwrap();
        let written = notification("shell/out", &out);
        // Keys stand in another order here, which is free.
        let expected = bytes(
            "82 a6 6d6574686f64 a9 7368656c6c2f6f7574 a6 706172616d73 82 a3 6f7574 a4 68690d0a a7 7368656c6c4964 a2 7331",
        );
        assert_eq!(written, expected);
        // A result without a value is there all the same.
        let nothing = encode(&()).unwrap();
        assert_eq!(
            success(1, "shell/in", &nothing),
            bytes("84 'id 01 'method 'shell/in 'status 00 'result c0")
        );
        assert_eq!(failure(None, "", &nothing), bytes("84 'id c0 'method a0 'status 01 'error c0"));
    }

    #[test]
    fn what_would_become_too_much_is_refused_before_it_does() {
        let refused = |frame: &[u8]| request(frame).unwrap_err();
        let head = bytes("82 'id 07 'params");
        let with = |more: &[u8]| [&head[..], more].concat();
        for (frame, why) in [
            (with(&[]), Malformed::Short),
            (with(&[0xdd, 0xff, 0xff, 0xff, 0xff]), Malformed::Short),
            (with(&[&[0xdd, 0, 2, 0, 0][..], &vec![0xc0; 0x20000]].concat()), Malformed::Values),
            (with(&[&[0x91; 40][..], &[0xc0]].concat()), Malformed::Depth),
            (with(&[0xd4, 1, 1]), Malformed::Type),
            (with(&[0xc1]), Malformed::Type),
            (with(&[0xa1, 0xff]), Malformed::Text),
            (with(&[0xc0, 0xc0]), Malformed::Long),
            (with(&[0xc0]), Malformed::Envelope),
        ] {
            assert_eq!(refused(&frame), (why, Some(7)), "{frame:02x?}");
        }
        for frame in ["", "c0", "90", "81 01 02", "df ffffffff", "82 'id ff 'method 'x"] {
            assert_eq!(refused(&bytes(frame)).1, None, "{frame}");
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Nil),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            any::<Vec<u8>>().prop_map(Value::from),
        ];
        leaf.prop_recursive(6, 64, 8, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..8).prop_map(Value::Array),
                proptest::collection::vec((any::<String>().prop_map(Value::from), inner), 0..8)
                    .prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_is_walked_to_its_end(id in any::<u64>(), method in "[a-z/]{0,20}", value in value()) {
            let frame = Value::Map(vec![
                ("method".into(), method.clone().into()),
                ("params".into(), value.clone()),
                ("id".into(), id.into()),
            ]);
            let mut encoded = Vec::new();
            rmpv::encode::write_value(&mut encoded, &frame).unwrap();
            let read = request(&encoded).unwrap();
            prop_assert_eq!((read.id, read.method), (id, method.as_str()));
            let again = rmpv::decode::read_value(&mut &encoded[read.params]).unwrap();
            // Not a number is not itself.
            prop_assert_eq!(format!("{again:?}"), format!("{value:?}"));
            for cut in 0..encoded.len() {
                prop_assert!(request(&encoded[..cut]).is_err());
            }
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in any::<Vec<u8>>()) {
            let _ = request(&bytes);
            let _ = params::<Write>(&bytes);
        }
    }
}
