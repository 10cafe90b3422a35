//! The admin API: JSON over HTTP with a bearer token, metrics, health checks.
//!
//! # Invariants
//! 1. Nothing under `/v1` is answered without the token, which is compared in constant time.
//! 2. Metrics and health need no token and show no secret, bucket or key.
//! 3. Every error is `{code, message, next}`: what happened, to what, and what to do.
//! 4. The types here are the API: the server answers with them, the CLI reads them.

mod api;
mod control;
mod error;
mod model;
mod repair;
mod router;

#[cfg(test)]
mod tests;

pub use api::{
    BucketInfo, CreateBucketRequest, CreateKeyRequest, HistoryQuery, HistoryReport, InitReport,
    InitRequest, KeyCreated, KeyInfo, LocateQuery, SetBucketRequest, WriteInfo,
};
pub use control::ClusterControl;
pub use error::{AdminError, ErrorKind};
pub use model::{
    ClusterStatus, Finding, Health, HealthLevel, HintsReport, Holding, KeptHints, Location,
    NodeStatus, Rebuilt, Replica, RingNode, RingReport, Role,
};
pub use repair::{
    Redundancy, RepairAction, RepairNode, RepairReport, RepairRequest, RepairRun, Unproven,
};
pub use router::{AdminToken, routes};
