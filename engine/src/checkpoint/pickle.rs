// SPDX-License-Identifier: MIT OR Apache-2.0
//! Python's pickle, protocols 0 to 5, read as data: nothing is called, and memory is bounded.
//!
//! Values live in one list and refer to each other by number, so that nesting costs no stack and
//! cycles are harmless. Only classes of the table in `globals.rs` are taken; an object is its class and
//! what it was built from.

use std::ops::Range;

use super::{globals::Class, machine};

/// Longest pickle that is read: all tensors of a large training run take 0.5 MB.
pub const PICKLE_LIMIT: u64 = 16 << 20;
/// Number of a value in its [`Pickle`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Id(pub(super) u32);

/// One value.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// `None`.
    None,
    /// `True` or `False`.
    Bool(bool),
    /// A whole number of at most 64 bits.
    Int(i64),
    /// A number.
    Float(f64),
    /// Text or bytes: a range of the pickle.
    Text(Range<usize>),
    /// A list, a tuple or a set.
    List(Vec<Id>),
    /// A dictionary, ordered or not, in the order of its insertions.
    Dict(Vec<(Id, Id)>),
    /// A class.
    Class(Class),
    /// An object: its class, its arguments, its entries and its state.
    Object { class: Class, arguments: Id, entries: Vec<(Id, Id)>, state: Option<Id> },
    /// What the pickle calls by a persistent name: a storage.
    Persistent(Id),
}

/// A pickle that was read to its end.
#[derive(Debug)]
pub struct Pickle {
    bytes: Vec<u8>,
    values: Vec<Value>,
    root: Id,
}

/// What is wrong with a pickle, for the caller to add the file's name.
pub type Outcome<T> = std::result::Result<T, String>;

impl Pickle {
    /// Reads a pickle of at most [`PICKLE_LIMIT`] bytes.
    ///
    /// # Errors
    /// What is wrong, and at which byte.
    pub fn read(bytes: Vec<u8>) -> Outcome<Self> {
        if bytes.len() as u64 > PICKLE_LIMIT {
            return Err(format!("pickle of {} bytes, at most {PICKLE_LIMIT} are read", bytes.len()));
        }
        let (values, root) = machine::run(&bytes)?;
        Ok(Self { bytes, values, root })
    }

    /// The outermost value.
    pub fn root(&self) -> Id {
        self.root
    }

    /// A value by its number.
    pub fn value(&self, id: Id) -> &Value {
        &self.values[id.0 as usize]
    }

    /// A value's text, if it is text in UTF-8.
    pub fn text(&self, id: Id) -> Option<&str> {
        match self.value(id) {
            Value::Text(range) => std::str::from_utf8(&self.bytes[range.clone()]).ok(),
            _ => None,
        }
    }

    /// A value's entries, if it is a list or tuple.
    pub fn list(&self, id: Id) -> Option<&[Id]> {
        match self.value(id) {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    /// A value's entries, if it is a dictionary or an object that acts as one.
    pub fn dict(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.value(id) {
            Value::Dict(entries) | Value::Object { class: Class::Namespace, entries, state: None, .. } => {
                Some(entries)
            }
            _ => None,
        }
    }

    /// The attributes of a namespace object.
    pub fn attributes(&self, id: Id) -> Option<&[(Id, Id)]> {
        match self.value(id) {
            Value::Object { class: Class::Namespace, state: Some(state), .. } => match self.list(*state) {
                Some([_, slots]) => self.dict(*slots),
                _ => self.dict(*state),
            },
            _ => self.dict(id),
        }
    }

    /// The entry `key` of a dictionary.
    pub fn get(&self, id: Id, key: &str) -> Option<Id> {
        self.dict(id)?.iter().rev().find(|(k, _)| self.text(*k) == Some(key)).map(|(_, v)| *v)
    }

    /// A whole number from 0 up.
    pub fn count(&self, id: Id) -> Option<u64> {
        match self.value(id) {
            Value::Int(v) => u64::try_from(*v).ok(),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(bytes: &[u8]) -> String {
        Pickle::read(bytes.to_vec()).unwrap_err()
    }

    #[test]
    fn reads_every_kind_of_value() {
        // {"a": (1, -2, 300, 1<<40, 0.5, None, True), "b": ["x"]} by protocol 2, memo used for "x".
        let program = b"\x80\x02}q\x00(X\x01\0\0\0a(K\x01J\xfe\xff\xff\xffM\x2c\x01\x8a\x06\0\0\0\0\0\x01G\x3f\xe0\0\0\0\0\0\0N\x88tX\x01\0\0\0b]q\x01U\x01xau.";
        let p = Pickle::read(program.to_vec()).unwrap();
        let tuple = p.list(p.get(p.root(), "a").unwrap()).unwrap();
        let values: Vec<_> = tuple.iter().map(|id| p.value(*id).clone()).collect();
        let ints = [1, -2, 300, 1 << 40].map(Value::Int);
        assert_eq!(values[..4], ints);
        assert_eq!(values[4..], [Value::Float(0.5), Value::None, Value::Bool(true)]);
        let list = p.list(p.get(p.root(), "b").unwrap()).unwrap();
        assert_eq!(p.text(list[0]), Some("x"));
    }

    #[test]
    fn a_namespace_shows_its_attributes() {
        let program = b"\x80\x04\x8c\x08argparse\x94\x8c\x09Namespace\x94\x93)\x81}(\x8c\x01k\x94K\x07ub.";
        let p = Pickle::read(program.to_vec()).unwrap();
        let (key, value) = p.attributes(p.root()).unwrap()[0];
        assert_eq!((p.text(key), p.count(value)), (Some("k"), Some(7)));
    }

    #[test]
    fn unknown_classes_are_named_and_nothing_runs() {
        assert!(refused(b"cos\nsystem\n(S'ls'\ntR.").contains("\"os.system\""));
        assert!(refused(b"\x8c\x05posix\x8c\x06system\x93.").contains("posix.system"));
        assert!(refused(b"i__main__\nX\n.").contains("0x69"));
    }

    #[test]
    fn broken_programs_are_errors() {
        for program in [
            &b""[..],
            b"K",
            b".",
            b"a.",
            b"]K\x01s.",
            b"h\x05.",
            b"t.",
            b"\x87.",
            b"(\x85.",
            b"R.",
            b"NNR.",
            b"N)R.",
            b"X\xff\xff\xff\xffa.",
            b"\x8d\xff\xff\xff\xff\xff\xff\xff\xffa.",
            b"}(K\x01u.",
            b"\x8a\xffa.",
            b"\x8b\xff\xff\xff\xff.",
            b"Ix\n.",
            b"(0K\x01K\x02\x93.",
            b"\x80",
        ] {
            assert!(!refused(program).is_empty());
        }
    }

    #[test]
    fn deep_nesting_and_cycles_are_harmless() {
        let mut deep = vec![b')'];
        deep.extend(std::iter::repeat_n(0x85, 900_000));
        deep.push(b'.');
        drop(Pickle::read(deep).unwrap());
        drop(Pickle::read(b"]q\x00h\x00a.".to_vec()).unwrap());
    }

    #[test]
    fn memory_is_bounded() {
        let mut many = vec![b'N'; 1 << 21];
        many.push(b'.');
        assert!(refused(&many).contains("values"));
        // A list of 1000 entries, copied by `list(…)` until the limit.
        let mut copies = b"]q\x00(".to_vec();
        copies.extend(std::iter::repeat_n(b'N', 1000));
        copies.extend(b"e0cbuiltins\nlist\nq\x010h\0\x85q\x020");
        copies.extend(b"h\x01h\x02R0".repeat(2000));
        copies.push(b'.');
        assert!(refused(&copies).contains("copies more than"));
        assert!(refused(&vec![b'N'; PICKLE_LIMIT as usize + 1]).contains("at most"));
    }
}
