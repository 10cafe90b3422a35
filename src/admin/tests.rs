//! Who is let in, and what they are told.
