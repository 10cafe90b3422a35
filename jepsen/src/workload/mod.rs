//! What clients do, and what they know afterwards.

mod ground;
mod hand;

pub use ground::Ground;
pub use hand::{Ended, Hand, KvRead, Where};
