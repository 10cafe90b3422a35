//! One file per operation: its parameters parsed, the catalogue asked, the answer rendered.
//!
//! # Invariants
//! 1. `parse` reads everything that an operation needs of its head; `run` decides nothing that
//!    could have been refused before the body was polled.
//! 2. Buckets come from the call's `Access` only.

pub(crate) mod abort_upload;
pub(crate) mod bucket_settings;
pub(crate) mod complete_upload;
pub(crate) mod copy_object;
pub(crate) mod copy_source;
pub(crate) mod create_bucket;
pub(crate) mod create_upload;
pub(crate) mod delete_bucket;
pub(crate) mod delete_object;
pub(crate) mod delete_objects;
pub(crate) mod delete_setting;
pub(crate) mod get_attributes;
pub(crate) mod get_object;
pub(crate) mod head_bucket;
pub(crate) mod head_object;
pub(crate) mod list_buckets;
pub(crate) mod list_objects;
pub(crate) mod list_objects_v2;
pub(crate) mod list_parts;
pub(crate) mod list_uploads;
pub(crate) mod list_versions;
pub(crate) mod listing;
pub(crate) mod object_settings;
pub(crate) mod put_acl;
pub(crate) mod put_object;
pub(crate) mod upload_part;
pub(crate) mod upload_part_copy;

#[cfg(test)]
#[path = "../../../tests/fuzz/s3_ops.rs"]
pub(in crate::s3) mod fuzz;
