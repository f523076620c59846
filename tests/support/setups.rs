//! What replicas under test are configured with.

use pbft::crypto::Crypto;
use pbft::kv::KeyValue;
use pbft::parameters::Parameters;
use pbft::replica::Setup;
use pbft::types::Cluster;
use pbft_models::mutants::Rulebook;
use pbft_models::simulation::Simulated;
use std::sync::Arc;

/// The production replica over the key-value store, a scheme, and the rules under test.
pub type Replicated<C> = Simulated<C, Rulebook>;

/// The configuration of each replica, in their order, with these keys.
pub fn setups<C: Crypto>(
    cluster: Cluster,
    parameters: Parameters,
    keys: Vec<C::Keys>,
    clients: u32,
) -> Vec<Setup<Replicated<C>>> {
    assert_eq!(parameters.check(&cluster), Ok(()));
    let setup = |(id, keys)| Setup {
        id,
        cluster,
        parameters,
        keys: Arc::new(keys),
        clients,
        rules: Rulebook::under_test(),
        genesis: KeyValue::default(),
    };
    cluster.replicas().zip(keys).map(setup).collect()
}
