//! What an embedder needs: a service that is neither comparable nor hashable, and errors that are errors.

#[path = "../examples/embed.rs"]
mod example;

use pbft::crypto::ed25519::Ed25519;
use pbft::message::Message;
use pbft::parameters::ConfigError;
use pbft::wire;
use std::error::Error;

#[test]
fn a_service_with_a_hash_map_is_replicated() {
    example::main().expect("each word is said, and counted");
}

#[test]
fn whatever_is_returned_as_an_error_is_one() {
    fn decoded(bytes: &[u8]) -> Result<Message<Ed25519>, Box<dyn Error>> {
        Ok(wire::decode(bytes)?)
    }
    fn is_error<T: Error + Send + Sync + 'static>() {}
    assert_eq!(decoded(&[]).expect_err("no message is empty").to_string(), "malformed");
    is_error::<ConfigError>();
    is_error::<pbft::replica::StartRefusal>();
    is_error::<pbft::replica::BrokenInvariant>();
    is_error::<pbft::service::RestoreError>();
    is_error::<pbft::runtime::StartError>();
    is_error::<pbft::runtime::StopError>();
}
