// SPDX-License-Identifier: MIT OR Apache-2.0
//! Subtitles of Matroska as they stand in the file: the demuxer gives them out as markup, and escapes every text
//! until the first tag came.

/// What is escaped, and how.
const ESCAPED: &[(&str, char)] =
    &[("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"'), ("&apos;", '\''), ("&#39;", '\'')];

/// Texts of one stream, in their order.
#[derive(Default)]
pub struct Texts {
    /// A tag came: from here on, texts are as they stand.
    tagged: bool,
}

impl Texts {
    /// The text as it stands in the file.
    pub fn plain(&mut self, markup: &str) -> String {
        self.tagged |= markup.contains('<');
        if self.tagged {
            return markup.to_owned();
        }
        let mut plain = String::with_capacity(markup.len());
        let mut rest = markup;
        while let Some(first) = rest.chars().next() {
            let (taken, meant) = ESCAPED
                .iter()
                .find(|(escaped, _)| rest.starts_with(escaped))
                .map_or((first.len_utf8(), first), |(escaped, meant)| (escaped.len(), *meant));
            plain.push(meant);
            rest = &rest[taken..];
        }
        plain
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_escaped_until_the_first_tag() {
        let mut texts = Texts::default();
        assert_eq!(texts.plain("Tom &amp; &quot;J&#39;&quot; &lt;3 &amp;lt; é"), "Tom & \"J'\" <3 &lt; é");
        assert_eq!(texts.plain("<i>R&D</i> &amp;"), "<i>R&D</i> &amp;");
        assert_eq!(texts.plain("a &lt; b"), "a &lt; b");
    }
}
