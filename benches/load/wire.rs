//! Frames of y-websocket and of Hocuspocus, and the broadcaster's, which has none but updates.

use clap::ValueEnum;

/// What a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Protocol {
    /// y-websocket.
    Y,
    /// Hocuspocus: each frame is led by the document's name, the first one holds a token.
    Hocuspocus,
    /// y-websocket's frames passed on by somebody who does not read them.
    Raw,
}

/// What a server says.
#[derive(Debug)]
pub(crate) enum Heard<'a> {
    Update(&'a [u8]),
    /// The answer to our step 1.
    Step2(&'a [u8]),
    /// Hocuspocus: one update of ours is taken.
    Taken,
    /// Hocuspocus: the token is good.
    Entered,
    Refused(String),
    Nothing,
}

/// How one document is spoken of.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) protocol: Protocol,
    pub(crate) doc: String,
}

pub(crate) fn put_uint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7F) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(crate) fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_uint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Reads from the front; a server that says what can't be read ends the run.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().expect("a whole message");
        self.0 = rest;
        *first
    }

    pub(crate) fn uint(&mut self) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let byte = self.byte();
            value |= u64::from(byte & 0x7F) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }

    pub(crate) fn clock(&mut self) -> u32 {
        u32::try_from(self.uint()).expect("a clock")
    }

    pub(crate) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::try_from(self.uint()).expect("a length");
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }
}

impl Wire {
    fn begin(&self, room: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(room + self.doc.len() + 12);
        if self.protocol == Protocol::Hocuspocus {
            put_bytes(&mut out, self.doc.as_bytes());
        }
        out
    }

    fn sync(&self, kind: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = self.begin(payload.len());
        out.extend_from_slice(&[0, kind]);
        put_bytes(&mut out, payload);
        out
    }

    /// Asks for all there is.
    pub(crate) fn step1(&self) -> Vec<u8> {
        self.sync(0, &[0])
    }

    pub(crate) fn update(&self, update: &[u8]) -> Vec<u8> {
        self.sync(2, update)
    }

    /// Hocuspocus' first message.
    pub(crate) fn token(&self, token: &str) -> Vec<u8> {
        let mut out = self.begin(token.len());
        out.extend_from_slice(&[2, 0]);
        put_bytes(&mut out, token.as_bytes());
        put_bytes(&mut out, b"4.7.0");
        out
    }

    pub(crate) fn read<'a>(&self, message: &'a [u8]) -> Heard<'a> {
        let mut reader = Reader(message);
        if self.protocol == Protocol::Hocuspocus {
            if message == [9] {
                return Heard::Nothing;
            }
            reader.bytes();
        }
        match (self.protocol, reader.uint()) {
            // Hocuspocus answers with 0 or, where it wants no answer, 4.
            (_, 0) | (Protocol::Hocuspocus, 4) => match reader.uint() {
                1 => Heard::Step2(reader.bytes()),
                2 => Heard::Update(reader.bytes()),
                _ => Heard::Nothing,
            },
            (Protocol::Hocuspocus, 2) => match reader.uint() {
                2 => Heard::Entered,
                _ => Heard::Refused(String::from_utf8_lossy(reader.bytes()).into()),
            },
            (Protocol::Hocuspocus, 8) => match reader.uint() {
                1 => Heard::Taken,
                _ => Heard::Refused("an update was not taken".into()),
            },
            (_, 2) => Heard::Refused("y-websocket: no permission".into()),
            _ => Heard::Nothing,
        }
    }
}
