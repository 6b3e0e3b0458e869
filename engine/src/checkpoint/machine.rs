// SPDX-License-Identifier: MIT OR Apache-2.0
//! The stack machine that a pickle is a program of; it makes data and calls nothing.

use std::{collections::HashMap, ops::Range};

use super::{
    globals::{self, Class},
    pickle::{Id, Outcome, Value},
};

/// Most values in one pickle.
const VALUES_LIMIT: usize = 1 << 20;
/// Most arguments of a call, and most entries that calls copy, all together.
const ARGUMENTS_LIMIT: usize = 32;
const COPIES_LIMIT: usize = 1 << 20;

/// Runs a pickle to its end: all values, and the number of the outermost.
///
/// # Errors
/// What is wrong, and at which byte.
pub fn run(bytes: &[u8]) -> Outcome<(Vec<Value>, Id)> {
    let mut machine = Machine {
        bytes,
        at: 0,
        values: Vec::new(),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: HashMap::new(),
        copied: 0,
    };
    let root = machine.run().map_err(|reason| format!("pickle, byte {}: {reason}", machine.at))?;
    Ok((machine.values, root))
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    copied: usize,
}

impl Machine<'_> {
    fn run(&mut self) -> Outcome<Id> {
        loop {
            let code = self.take(1)?.start;
            let code = self.bytes[code];
            match code {
                b'.' => return self.pop(),
                0x80 => {
                    self.take(1)?;
                }
                0x95 => {
                    self.take(8)?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => {
                    // Python lets this remove a mark, too.
                    if self.marks.last() == Some(&self.stack.len()) {
                        self.marks.pop();
                    } else {
                        self.pop()?;
                    }
                }
                b'1' => drop(self.above_mark()?),
                b'2' => {
                    let top = self.top()?;
                    self.stack.push(top);
                }
                b'N' => self.push(Value::None)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'K' => self.push_int(1, false)?,
                b'M' => self.push_int(2, false)?,
                b'J' => self.push_int(4, true)?,
                0x8a => {
                    let length = self.length(1)?;
                    self.push_int(length, true)?;
                }
                0x8b => {
                    let length = self.length(4)?;
                    self.push_int(length, true)?;
                }
                b'G' => {
                    let range = self.take(8)?;
                    let bits = self.bytes[range].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
                    self.push(Value::Float(f64::from_bits(bits)))?;
                }
                b'I' | b'L' | b'F' => self.push_written_number(code)?,
                b'U' | b'C' | 0x8c => self.push_text(1)?,
                b'T' | b'B' | b'X' => self.push_text(4)?,
                0x8d | 0x8e => self.push_text(8)?,
                b'V' => {
                    let line = self.line()?;
                    self.push(Value::Text(line))?;
                }
                b']' | b')' | 0x8f => self.push(Value::List(Vec::new()))?,
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b'a' => {
                    let item = self.pop()?;
                    self.extend(vec![item])?;
                }
                b'e' | 0x90 => {
                    let items = self.above_mark()?;
                    self.extend(items)?;
                }
                b'l' | b't' | 0x91 => {
                    let items = self.above_mark()?;
                    self.push(Value::List(items))?;
                }
                0x85..=0x87 => {
                    let count = usize::from(code - 0x84);
                    if self.free() < count {
                        return Err("the stack is empty".into());
                    }
                    let items = self.stack.split_off(self.stack.len() - count);
                    self.push(Value::List(items))?;
                }
                b'd' => {
                    let items = self.above_mark()?;
                    self.push(Value::Dict(pairs(&items)?))?;
                }
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.insert(&[key, value])?;
                }
                b'u' => {
                    let items = self.above_mark()?;
                    self.insert(&items)?;
                }
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push_class(module, name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    match (&self.values[module.0 as usize], &self.values[name.0 as usize]) {
                        (Value::Text(m), Value::Text(n)) => self.push_class(m.clone(), n.clone())?,
                        _ => return Err("a class is named by something other than text".into()),
                    }
                }
                b'R' | 0x81 => {
                    let (arguments, class) = (self.pop()?, self.pop()?);
                    self.make(class, arguments)?;
                }
                0x92 => {
                    let (_named, arguments, class) = (self.pop()?, self.pop()?, self.pop()?);
                    self.make(class, arguments)?;
                }
                b'b' => {
                    let given = self.pop()?;
                    let top = self.top()?;
                    if let Value::Object { state, .. } = &mut self.values[top.0 as usize] {
                        *state = Some(given);
                    }
                }
                b'Q' => {
                    let name = self.pop()?;
                    self.push(Value::Persistent(name))?;
                }
                b'q' => self.keep_at(1)?,
                b'r' => self.keep_at(4)?,
                b'p' => {
                    let slot = self.written_slot()?;
                    let top = self.top()?;
                    self.memo.insert(slot, top);
                }
                0x94 => {
                    let (slot, top) = (self.memo.len() as u32, self.top()?);
                    self.memo.insert(slot, top);
                }
                b'h' => self.fetch_at(1)?,
                b'j' => self.fetch_at(4)?,
                b'g' => {
                    let slot = self.written_slot()?;
                    self.fetch(slot)?;
                }
                other => return Err(format!("instruction {other:#04x} is not read")),
            }
        }
    }

    /// Values above the last mark, which no instruction but a marked one may reach below.
    fn free(&self) -> usize {
        self.stack.len() - self.marks.last().copied().unwrap_or(0)
    }

    fn take(&mut self, count: usize) -> Outcome<Range<usize>> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let end =
            end.ok_or_else(|| format!("{count} more bytes expected, but it ends at {}", self.bytes.len()))?;
        Ok(std::mem::replace(&mut self.at, end)..end)
    }

    fn line(&mut self) -> Outcome<Range<usize>> {
        let rest = &self.bytes[self.at..];
        let length = rest.iter().position(|b| *b == b'\n').ok_or("a line has no end")?;
        let range = self.take(length)?;
        self.take(1)?;
        Ok(range)
    }

    /// A length of `width` bytes, little-endian.
    fn length(&mut self, width: usize) -> Outcome<usize> {
        let range = self.take(width)?;
        let number = self.bytes[range].iter().rev().fold(0u64, |n, b| n << 8 | u64::from(*b));
        usize::try_from(number).map_err(|_| format!("length {number} is too large"))
    }

    fn slot(&mut self, width: usize) -> Outcome<u32> {
        self.length(width).map(|slot| slot as u32)
    }

    fn written_slot(&mut self) -> Outcome<u32> {
        let line = self.line()?;
        let text = std::str::from_utf8(&self.bytes[line]).ok();
        text.and_then(|t| t.trim().parse().ok()).ok_or_else(|| "a memo number cannot be read".to_string())
    }

    fn push(&mut self, value: Value) -> Outcome<()> {
        if self.values.len() >= VALUES_LIMIT {
            return Err(format!("more than {VALUES_LIMIT} values"));
        }
        self.stack.push(Id(self.values.len() as u32));
        self.values.push(value);
        Ok(())
    }

    fn push_int(&mut self, width: usize, signed: bool) -> Outcome<()> {
        let range = self.take(width)?;
        let bytes = &self.bytes[range];
        if width > 8 {
            return Err(format!("a whole number of {width} bytes, at most 8 are read"));
        }
        let negative = signed && bytes.last().is_some_and(|b| b & 0x80 != 0);
        let mut filled = if negative { [0xff; 8] } else { [0; 8] };
        filled[..width].copy_from_slice(bytes);
        self.push(Value::Int(i64::from_le_bytes(filled)))
    }

    fn push_written_number(&mut self, code: u8) -> Outcome<()> {
        let line = self.line()?;
        let text = std::str::from_utf8(&self.bytes[line]).unwrap_or("?").trim();
        let value = match (code, text) {
            (b'I', "00") => Some(Value::Bool(false)),
            (b'I', "01") => Some(Value::Bool(true)),
            (b'F', _) => text.parse().ok().map(Value::Float),
            _ => text.trim_end_matches('L').parse().ok().map(Value::Int),
        };
        let value = value.ok_or("a number cannot be read")?;
        self.push(value)
    }

    fn push_text(&mut self, width: usize) -> Outcome<()> {
        let length = self.length(width)?;
        let range = self.take(length)?;
        self.push(Value::Text(range))
    }

    fn push_class(&mut self, module: Range<usize>, name: Range<usize>) -> Outcome<()> {
        let text = |range: Range<usize>| String::from_utf8_lossy(&self.bytes[range]).into_owned();
        let (module, name) = (text(module), text(name));
        let class = globals::find(&module, &name).ok_or_else(|| {
            let cut = |s: &str| s.chars().take(80).collect::<String>();
            format!("asks for {:?}, which is not among the known classes", cut(&format!("{module}.{name}")))
        })?;
        self.push(Value::Class(class))
    }

    fn top(&self) -> Outcome<Id> {
        self.stack.last().copied().filter(|_| self.free() > 0).ok_or_else(|| "the stack is empty".to_string())
    }

    fn pop(&mut self) -> Outcome<Id> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn above_mark(&mut self) -> Outcome<Vec<Id>> {
        let mark = self.marks.pop().ok_or("a mark is missing")?;
        Ok(self.stack.split_off(mark))
    }

    fn extend(&mut self, items: Vec<Id>) -> Outcome<()> {
        let top = self.top()?;
        match &mut self.values[top.0 as usize] {
            Value::List(list) => list.extend(items),
            _ => return Err("items are appended to something that is no list".into()),
        }
        Ok(())
    }

    fn insert(&mut self, items: &[Id]) -> Outcome<()> {
        let top = self.top()?;
        match &mut self.values[top.0 as usize] {
            Value::Dict(entries) | Value::Object { entries, .. } => entries.extend(pairs(items)?),
            _ => return Err("entries are set in something that is no dictionary".into()),
        }
        Ok(())
    }

    /// What a class makes of its arguments, kept as data.
    fn make(&mut self, class: Id, arguments: Id) -> Outcome<()> {
        let Value::Class(class) = self.values[class.0 as usize] else {
            return Err("something other than a class is called".into());
        };
        let first = match &self.values[arguments.0 as usize] {
            Value::List(items) if items.len() <= ARGUMENTS_LIMIT => items.first().copied(),
            Value::List(items) => {
                return Err(format!(
                    "a call with {} arguments, at most {ARGUMENTS_LIMIT} are read",
                    items.len()
                ));
            }
            _ => return Err("arguments are no tuple".into()),
        };
        let class = match (class, first.map(|id| &self.values[id.0 as usize])) {
            (Class::Rebuild, Some(Value::Class(inner))) => *inner,
            _ => class,
        };
        let value = match class {
            Class::Dict | Class::List => {
                let items = self.copy_of(first)?;
                if class == Class::List { Value::List(items) } else { Value::Dict(self.as_pairs(&items)) }
            }
            _ => Value::Object { class, arguments, entries: Vec::new(), state: None },
        };
        self.push(value)
    }

    /// The entries of a list that is copied into another; few, as copies are cheap to ask for.
    fn copy_of(&mut self, list: Option<Id>) -> Outcome<Vec<Id>> {
        let items = match list.map(|id| &self.values[id.0 as usize]) {
            Some(Value::List(items)) => items.as_slice(),
            _ => &[],
        };
        self.copied += items.len();
        if self.copied > COPIES_LIMIT {
            return Err(format!("copies more than {COPIES_LIMIT} entries"));
        }
        Ok(items.to_vec())
    }

    /// Entries of a dictionary that is made from a list of pairs.
    fn as_pairs(&self, items: &[Id]) -> Vec<(Id, Id)> {
        let pair = |id: &Id| match &self.values[id.0 as usize] {
            Value::List(pair) if pair.len() == 2 => Some((pair[0], pair[1])),
            _ => None,
        };
        items.iter().filter_map(pair).collect()
    }

    fn keep_at(&mut self, width: usize) -> Outcome<()> {
        let slot = self.slot(width)?;
        let top = self.top()?;
        self.memo.insert(slot, top);
        Ok(())
    }

    fn fetch_at(&mut self, width: usize) -> Outcome<()> {
        let slot = self.slot(width)?;
        self.fetch(slot)
    }

    fn fetch(&mut self, slot: u32) -> Outcome<()> {
        let kept = *self.memo.get(&slot).ok_or_else(|| format!("memo {slot} was never kept"))?;
        self.stack.push(kept);
        Ok(())
    }
}

fn pairs(items: &[Id]) -> Outcome<Vec<(Id, Id)>> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a key has no value".into());
    }
    Ok(pairs.iter().map(|[key, value]| (*key, *value)).collect())
}
