//! Text from outside, so that it stays text: in pages and on terminals.

use std::fmt;

/// Text as it stands in HTML and SVG, in elements and in quoted attributes.
#[derive(Clone, Copy, Debug)]
pub struct Escaped<'a>(pub &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for letter in self.0.chars() {
            match letter {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                _ => write!(f, "{}", visible(letter))?,
            }
        }
        Ok(())
    }
}

/// Text of one line without anything that a terminal obeys.
#[must_use]
pub fn plain(text: &str) -> String {
    text.chars().map(visible).collect()
}

/// The first letters of a text, if it is longer.
#[must_use]
pub fn shortened(text: &str, letters_max: usize) -> String {
    if text.chars().count() <= letters_max {
        return text.to_owned();
    }
    let kept: String = text.chars().take(letters_max.saturating_sub(1)).collect();
    format!("{}\u{2026}", kept.trim_end())
}

// Letters that turn the direction of writing could make a text look like another.
fn visible(letter: char) -> char {
    match letter {
        '\n' | '\t' => ' ',
        '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    }
}

#[cfg(test)]
mod tests {
    use super::{Escaped, plain, shortened};

    #[test]
    fn text_stays_text() {
        let hostile = "</title><script>alert('1')</script>&\"\u{1b}[2J\u{202e}\0\n";

        let shown = Escaped(hostile).to_string();

        assert_eq!(
            shown,
            "&lt;/title&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;\u{fffd}[2J\
             \u{fffd}\u{fffd} "
        );
        assert_eq!(plain("a\u{1b}[31mb\nc"), "a\u{fffd}[31mb c");
    }

    #[test]
    fn a_text_is_cut_between_letters() {
        assert_eq!(shortened("äöü", 3), "äöü");
        assert_eq!(shortened("äöüß", 3), "äö\u{2026}");
    }
}
