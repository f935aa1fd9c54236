//! Bounds of what people write about a sandbox; those of the native API.

use super::answer::Refusal;

/// Bytes of a title.
pub(super) const MAX_TITLE: usize = 200;

pub(super) fn check_title(title: Option<&str>) -> Result<(), Refusal> {
    if title.is_some_and(|title| title.len() > MAX_TITLE || title.contains(char::is_control)) {
        return Err(Refusal::value("`title` has at most 200 bytes without control characters"));
    }
    Ok(())
}

pub(super) fn check_description(text: Option<&str>) -> Result<(), Refusal> {
    if text.is_some_and(|text| text.len() > 4_000 || text.contains('\0')) {
        return Err(Refusal::value("`description` has at most 4,000 bytes and no NUL"));
    }
    Ok(())
}

pub(super) fn check_tags(tags: &[String]) -> Result<(), Refusal> {
    let is_tag = |tag: &String| (1..=64).contains(&tag.len()) && !tag.contains(char::is_control);
    if tags.len() > 32 || !tags.iter().all(is_tag) {
        return Err(Refusal::value(
            "`tags` are at most 32, each of 1 to 64 bytes without control characters",
        ));
    }
    Ok(())
}
