//! How many states the first world must have, by arithmetic.

use pbft::types::Cluster;

/// The number of states of the first world (correct replicas only, view 0, one request, no time-outs),
/// computed from the rules alone.
///
/// What the logs contain. Until the primary has heard of the request, all that can happen is that backups
/// hear of it. Once it has, it has assigned it to n = 1. Let `A` be the backups that have accepted its
/// PRE-PREPARE, and so sent PREPARE, and `P` the replicas that have prepared, and so sent COMMIT. A replica
/// needs `Q - 1` PREPAREs to prepare, a backup's own included, so there is a `P` only where `A` has at least
/// that many, and a backup in `P` is in `A`. Then, with `Q` the quorum:
/// - a backup that has not accepted holds any of the PREPAREs of `A` and any of the COMMITs of `P`;
/// - a backup that has accepted and not prepared holds its own PREPARE, fewer than `Q - 2` of the others',
///   and any of the COMMITs of `P`;
/// - the primary, not prepared, holds fewer than `Q - 1` of the PREPAREs of `A` and any of the COMMITs of
///   `P`;
/// - a prepared replica has turned its PREPAREs into a certificate that says nothing of who sent them. It
///   holds its own COMMIT and fewer than `Q - 1` of the others' in `P`; or it has committed and executed, and
///   then no vote is left: one state more if `P` has `Q` members.
///
/// A backup has heard of the request or not, until it has executed it. What has been sent follows from `A`
/// and `P`. So the number of states is the sum over all `A` and `P` of the product of the replicas'
/// possibilities.
pub fn count_first_world(cluster: Cluster) -> u64 {
    let (n, quorum) = (cluster.n(), cluster.quorum());
    let backups = n - 1;
    let choose = |from: usize, take: usize| -> u64 {
        (0..take).fold(1, |product, i| product * (from - i) as u64 / (i as u64 + 1))
    };
    // How many subsets of a set have fewer elements than a given number.
    let fewer =
        |from: usize, than: usize| (0..than.min(from + 1)).map(|take| choose(from, take)).sum::<u64>();
    // Before the primary has heard of the request.
    let mut states = 1u64 << backups;
    for accepted in 0..=backups {
        for prepared_backups in 0..=accepted {
            for primary_prepared in [0, 1] {
                let prepared = prepared_backups + primary_prepared;
                if prepared > 0 && accepted < quorum - 1 {
                    continue;
                }
                let ways = choose(backups, accepted) * choose(accepted, prepared_backups);
                let any_commits = 1u64 << prepared;
                let aloof = (1u64 << accepted) * any_commits;
                let waiting = fewer(accepted.saturating_sub(1), quorum.saturating_sub(2)) * any_commits;
                let done = u64::from(prepared >= quorum);
                let committing = fewer(prepared.saturating_sub(1), quorum - 1);
                let primary = match primary_prepared {
                    0 => fewer(accepted, quorum - 1) * any_commits,
                    _ => committing + done,
                };
                let heard_or_not = 2;
                let power = |base: u64, exponent: usize| (0..exponent).fold(1, |product, _| product * base);
                states += ways
                    * primary
                    * power(heard_or_not * aloof, backups - accepted)
                    * power(heard_or_not * waiting, accepted - prepared_backups)
                    * power(heard_or_not * committing + done, prepared_backups);
            }
        }
    }
    states
}
