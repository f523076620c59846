//! The rules that nothing in the abstract protocol stands for, and why.

/// Each rule with the reason.
pub const NOT_GUARDS: &[(&str, &str)] = &[
    ("at-most-once", "it is inside of the service's state, which batches take to the next by a function"),
    ("high-water-mark", "it bounds memory: numbers above H are as safe as others"),
    ("certificate-in-window", "it bounds memory: a certificate for any number proves the same"),
    ("one-certificate-per-n", "P may hold several certificates: the one of the highest view counts"),
    ("null-only-in-o", "the null request is a batch like others"),
    ("null-fills-gaps", "it is for progress: an open entry of O may be any batch, or none"),
    ("join-on-f+1", "it is for progress: a replica may leave a view at any time"),
    ("one-is-not-enough", "it is for progress: a replica may leave a view at any time"),
    ("view-change-retransmitted", "it is for progress: what is sent once is sent"),
    ("timeout-grows", "it is for progress: there is no time"),
    ("timer-on-request", "it is for progress: there is no time"),
    ("resume-on-catch-up", "it is for progress: a NEW-VIEW may arrive at any time"),
    ("client-table-in-checkpoint", "the client table is inside of the service's state"),
    ("gc-after-execution", "it is for progress: a replica that lacks a state executes nothing"),
    ("f+1-replies", "clients are not in the abstract protocol"),
    ("reply-bound-to-request", "clients are not in the abstract protocol"),
    ("read-quorum", "clients are not in the abstract protocol"),
    ("reads-wait-for-prepared", "clients are not in the abstract protocol"),
    ("retransmit-to-all", "clients are not in the abstract protocol"),
    ("reply-cached", "clients are not in the abstract protocol"),
];

/// Rules that guards stand for and that the proof does without.
pub const NOT_NEEDED: &[&str] = &["certificate-view-below-target", "prepared-has-batch"];
