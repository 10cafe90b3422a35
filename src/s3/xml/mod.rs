//! XML in and out, as small as S3 needs it.

mod reader;
mod writer;

pub(crate) use reader::{Element, parse};
pub(crate) use writer::{DECLARATION, Xml};
