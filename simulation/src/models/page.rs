//! Keeps the tables of a page what the models say.

use anyhow::Context;

use super::Section;

/// Replaces what stands between a section's two markers, `<!-- models: name -->` and
/// `<!-- end -->`, by the section.
///
/// # Errors
/// If the page lacks a marker.
pub fn with_section(page: &str, section: &Section) -> anyhow::Result<String> {
    let opening = format!("<!-- models: {} -->\n", section.name);
    let missing = || format!("the page has no place '{}'", opening.trim_end());
    let (before, rest) = page.split_once(&opening).with_context(missing)?;
    let end = rest.find("<!-- end -->");
    let end = end.with_context(|| format!("the section '{}' has no end", section.name))?;
    Ok(format!("{before}{opening}{}{}", section.text, &rest[end..]))
}

#[cfg(test)]
mod tests {
    use super::{Section, with_section};

    #[test]
    fn a_section_replaces_what_stood_in_its_place() {
        let page =
            "a\n<!-- models: one -->\nold\n<!-- end -->\nb\n<!-- models: two -->\n<!-- end -->\n";
        let section = Section { name: "one", text: "new\n".to_owned() };

        let page = with_section(page, &section).unwrap();

        assert_eq!(
            page,
            "a\n<!-- models: one -->\nnew\n<!-- end -->\nb\n<!-- models: two -->\n<!-- end -->\n"
        );
    }

    #[test]
    fn a_page_without_the_place_is_refused() {
        let section = Section { name: "one", text: String::new() };

        assert!(with_section("nothing", &section).is_err());
        assert!(with_section("<!-- models: one -->\n", &section).is_err());
    }
}
