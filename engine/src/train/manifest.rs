// SPDX-License-Identifier: MIT OR Apache-2.0
//! A table beside the pictures that says where each comes from, to choose and to weigh by.

use std::{collections::HashMap, path::Path};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// Name of the table in a folder of pictures: CSV with a header, one column of which is `file`.
pub const MANIFEST: &str = "MANIFEST.csv";

/// A column and the value it must have, written `tier=A`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Condition {
    /// Name of the column.
    pub column: String,
    /// What must stand there.
    pub value: String,
}

/// How often pictures that meet a condition are drawn, compared with others; written
/// `package=NAME:0.33`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Weight {
    /// Which pictures.
    pub condition: Condition,
    /// Factor, above 0.
    pub factor: f32,
}

/// The table, by file name.
#[derive(Debug, Default)]
pub struct Manifest {
    columns: Vec<String>,
    rows: HashMap<String, Vec<String>>,
}

impl Manifest {
    /// Reads the table of `folder`.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::File`] if it has no column `file` or a row of another length.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path))?;
        Self::parse(&text, &path)
    }

    /// Reads the text of a table; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::File`] as [`Manifest::read`].
    pub fn parse(text: &str, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut lines = records(text).into_iter();
        let columns = lines.next().unwrap_or_default();
        let file = columns.iter().position(|c| c == "file");
        let file = file.ok_or_else(|| Error::file(path, "has no column `file`"))?;
        let mut rows = HashMap::new();
        for (number, row) in lines.enumerate() {
            if row.len() != columns.len() {
                let (found, line) = (row.len(), number + 2);
                return Err(Error::file(path, format!("row {line}: {found} columns, not {}", columns.len())));
            }
            rows.insert(row[file].clone(), row);
        }
        Ok(Self { columns, rows })
    }

    /// True if the table has a row for this file.
    pub fn has(&self, file: &str) -> bool {
        self.rows.contains_key(file)
    }

    /// What stands in a column of the row of `file`; nothing if there is no such row or column.
    pub fn value(&self, file: &str, column: &str) -> Option<&str> {
        let column = self.columns.iter().position(|c| c == column)?;
        Some(self.rows.get(file)?[column].as_str())
    }

    /// True if the row of `file` meets the condition.
    pub fn meets(&self, file: &str, condition: &Condition) -> bool {
        self.value(file, &condition.column) == Some(condition.value.as_str())
    }

    /// Checks that the column of a condition exists.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the columns there are.
    pub fn check(&self, condition: &Condition) -> Result<()> {
        if self.columns.contains(&condition.column) {
            return Ok(());
        }
        Err(Error::setting("column", &condition.column, format!("one of {}", self.columns.join(", "))))
    }
}

impl TryFrom<String> for Condition {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        match text.split_once('=') {
            Some((column, value)) if !column.trim().is_empty() => {
                Ok(Self { column: column.trim().into(), value: value.trim().into() })
            }
            _ => Err(Error::setting("condition", format!("\"{text}\""), "COLUMN=VALUE")),
        }
    }
}

impl From<Condition> for String {
    fn from(condition: Condition) -> Self {
        format!("{}={}", condition.column, condition.value)
    }
}

impl TryFrom<String> for Weight {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        let parts = text.rsplit_once(':').and_then(|(condition, factor)| {
            let factor = factor.trim().parse().ok().filter(|f: &f32| f.is_finite() && *f > 0.0)?;
            Some((condition.to_string(), factor))
        });
        let (condition, factor) = parts
            .ok_or_else(|| Error::setting("weight", format!("\"{text}\""), "COLUMN=VALUE:FACTOR, above 0"))?;
        Ok(Self { condition: condition.try_into()?, factor })
    }
}

impl From<Weight> for String {
    fn from(weight: Weight) -> Self {
        format!("{}:{}", String::from(weight.condition), weight.factor)
    }
}

/// The records of a CSV text (RFC 4180): fields may stand in quotes and then hold commas, line ends
/// and doubled quotes. Empty lines are left out.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut all, mut row, mut field, mut quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut chars = text.chars().peekable();
    let end_row = |row: &mut Vec<String>, field: &mut String, all: &mut Vec<Vec<String>>| {
        if !row.is_empty() || !field.is_empty() {
            row.push(std::mem::take(field));
            all.push(std::mem::take(row));
        }
    };
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => {
                field.push('"');
                chars.next();
            }
            '"' => quoted = !quoted,
            ',' if !quoted => row.push(std::mem::take(&mut field)),
            '\n' if !quoted => end_row(&mut row, &mut field, &mut all),
            '\r' if !quoted => {}
            c => field.push(c),
        }
    }
    end_row(&mut row, &mut field, &mut all);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoted_fields_keep_their_commas() {
        let text = "file,crop,note\r\na.jpg,\"1,2\",\"say \"\"hi\"\"\"\n\nb.jpg,,x\n";
        let read = records(text);
        assert_eq!(read[1], ["a.jpg", "1,2", "say \"hi\""]);
        assert_eq!(read[2], ["b.jpg", "", "x"]);
        assert_eq!(read.len(), 3);
    }

    #[test]
    fn conditions_and_weights_are_written_as_they_are_read() {
        for text in ["tier=A", "package=@stdlib/x"] {
            assert_eq!(String::from(Condition::try_from(text.to_string()).unwrap()), text);
        }
        let weight = Weight::try_from("package=a:b:0.5".to_string()).unwrap();
        assert_eq!((weight.condition.value.as_str(), weight.factor), ("a:b", 0.5));
        for wrong in ["", "tier", "=A", "tier=A:0", "tier=A:x", "tier=A:nan", "tier=A"] {
            assert!(Weight::try_from(wrong.to_string()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_row_of_another_length_is_named() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join(MANIFEST), "file,tier\na,A\nb\n").unwrap();
        assert!(Manifest::read(dir.path()).unwrap_err().to_string().contains("row 3"));
    }
}
