//! The colours of diagrams and pages, for light and dark surroundings and for paper.
//!
//! Red is for what is false or violated and for nothing else; violet for what somebody Byzantine says that is
//! true. Quorums are blue, which everybody can tell apart from red. `tests/explorer/colours.rs` holds them to
//! WCAG AA: 4.5 to 1 for every text on every ground.

/// On a light ground, as custom properties.
macro_rules! light {
    () => {
        "--ink:#1f2937;--soft:#4b5563;--line:#9ca3af;--paper:#ffffff;--ground:#f3f4f6;--edge:#d1d5db;--bad:#991b1b;\
         --byz:#6d28d9;--quorum:#1e40af;--safe:#065f46;--wash:#fee2e2;--v0:#dbeafe;--v1:#fef3c7;--v2:#e9d5ff;--v3:#d1fae5"
    };
}

/// On a dark ground.
macro_rules! dark {
    () => {
        "--ink:#e5e7eb;--soft:#b6bdc9;--line:#6b7280;--paper:#111827;--ground:#030712;--edge:#374151;--bad:#fca5a5;\
         --byz:#c4b5fd;--quorum:#93c5fd;--safe:#6ee7b7;--wash:#4c1d1d;--v0:#1e3a5f;--v1:#4a3b12;--v2:#3b2a57;--v3:#17402f"
    };
}

/// On paper.
macro_rules! print {
    () => {
        "--ink:#111827;--soft:#4b5563;--line:#9ca3af;--paper:#ffffff;--ground:#ffffff;--edge:#bbbbbb;--bad:#991b1b;\
         --byz:#6d28d9;--quorum:#1e40af;--safe:#065f46;--wash:#fee2e2;--v0:#dbeafe;--v1:#fef3c7;--v2:#e9d5ff;--v3:#d1fae5"
    };
}

pub(super) use {dark, light, print};
