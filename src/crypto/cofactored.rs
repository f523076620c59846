//! Which signatures of clients on requests are valid: those that ZIP 215 accepts, alone or together.
//!
//! Let `A` be the key's point, `(R, s)` the signature (64 bytes), `M` the message, `B` the base point of prime order `l`,
//! and `k` the number below `l` that SHA-512 of `R`, the key's bytes and `M` gives. A signature is valid if
//!
//! 1. `s`, read as a number, is below `l`;
//! 2. `R` is an encoding of a point, its canonical one or another;
//! 3. `8(sB - kA - R) = 0`.
//!
//! # Alone and together are the same
//!
//! For several signatures 1 and 2 are looked at for each, and in place of 3 for each
//!
//! `8 sum z(sB - kA - R) = 0`
//!
//! with a number `z` below 2^128 for each. Times eight every point is in the group of order `l`: so it makes no
//! difference that the factors are worked out modulo `l`, and the points `8(sB - kA - R)` are multiples `eB`. If all `e`
//! are zero, so is the sum. If one is not, then for any choice of the other `z` there is one value modulo `l`, so one
//! at most below 2^128, of its own `z` for which the sum is zero. The `z` are taken from a hash of all keys, signatures
//! and `k`: whoever makes up signatures can try them out by himself, and each attempt succeeds with a probability of
//! 2^-128, as every part of it is hashed before there is any `z`. There is no secret in it and no chance: of one list all
//! replicas find the same, and of different lists with the same signature they do but for that probability.
//!
//! Without the factor eight this would not be so: what is left then of points of order two, four or eight vanishes for
//! some `z` and not for others. That is the known fault of batches with the equation of strict verification, and why the
//! two rules differ.
//!
//! # What it does not give
//!
//! Strict verification (`verify_strict`) accepts fewer: whatever it accepts is valid here, as `R = sB - kA` then. Here
//!
//! - whoever has the secret key can make several signatures of one request, also by adding points of small order to `R`
//!   or writing it in another way. With a secret key that is possible by any rule, by signing with another nonce. Nothing
//!   rests on a signature of a request being the only one: digests of requests and batches leave signatures out
//!   ([`request_digest`](crate::message::request_digest)), clients are told apart by timestamps, and a request with
//!   another valid signature is the same request;
//! - of a signature somebody without the key can make another by adding a point of small order to `A` or `R` only if `k`
//!   stays what it is, and `k` is a hash of both: no more than by the strict rule;
//! - a key of small order signs everything: with `s = 0` and `R = 0` the equation holds for all messages. Such keys are
//!   refused where keys are read ([`PublicKeys::new`](super::ed25519::PublicKeys::new)).
//!
//! Votes, certificates and everything else that is signed stay under the strict rule.
//!
//! Source: Chalkias, Garillot and Nikolaenko, *Taming the many EdDSAs* (2020); ZIP 215.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::{IsIdentity, VartimeMultiscalarMul};
use sha2::{Digest as _, Sha512};
use std::iter::once;

/// A signature over a message, which is in parts, and the key that it is said to be of.
pub(super) struct Claimed<'a> {
    pub(super) key: EdwardsPoint,
    /// The key as it was configured, which need not be the canonical encoding.
    pub(super) key_bytes: &'a [u8; 32],
    pub(super) message: [&'a [u8]; 2],
    pub(super) signature: &'a [u8; 64],
}

/// What the equation is about.
struct Terms {
    key: EdwardsPoint,
    r: EdwardsPoint,
    s: Scalar,
    k: Scalar,
}

impl Claimed<'_> {
    /// None if 1 or 2 does not hold.
    fn terms(&self) -> Option<Terms> {
        let (r_bytes, s_bytes) = self.signature.split_at(32);
        let s_bytes: [u8; 32] = s_bytes.try_into().ok()?;
        let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s_bytes))?;
        let r = CompressedEdwardsY::from_slice(r_bytes).ok()?.decompress()?;
        let hash = Sha512::new().chain_update(r_bytes).chain_update(self.key_bytes);
        let hash = self.message.iter().fold(hash, |hash, part| hash.chain_update(part));
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        Some(Terms { key: self.key, r, s, k })
    }
}

/// The most that are put into one sum. What more would spare is less than what the tables of so many points cost, which
/// are allocated in steps that double: 31 signatures have 63 points, and room for 64.
const MAX_IN_SUM: usize = 31;

/// Whether all of these are valid.
pub(super) fn all_valid(claimed: &[Claimed<'_>]) -> bool {
    // As equal as can be: of 32 sixteen and sixteen.
    let sums = claimed.len().div_ceil(MAX_IN_SUM).max(1);
    claimed.chunks(claimed.len().div_ceil(sums).max(1)).all(is_sum_zero)
}

fn is_sum_zero(claimed: &[Claimed<'_>]) -> bool {
    let Some(terms) = claimed.iter().map(Claimed::terms).collect::<Option<Vec<Terms>>>() else {
        return false;
    };
    let difference = match &terms[..] {
        [] => return true,
        [one] => EdwardsPoint::vartime_double_scalar_mul_basepoint(&one.k, &-one.key, &one.s) - one.r,
        several => weighted_sum(several, &weights(claimed, several)),
    };
    difference.mul_by_cofactor().is_identity()
}

/// The `z`: of each four 64 bytes of hash.
fn weights(claimed: &[Claimed<'_>], terms: &[Terms]) -> Vec<Scalar> {
    let all = claimed.iter().zip(terms).fold(Sha512::new().chain_update(DOMAIN), |hash, (of, terms)| {
        hash.chain_update(of.key_bytes).chain_update(of.signature).chain_update(terms.k.as_bytes())
    });
    let all = all.finalize();
    let four = |number: usize| -> [u8; 64] {
        Sha512::new().chain_update(all).chain_update((number as u64).to_le_bytes()).finalize().into()
    };
    let blocks = (0..terms.len().div_ceil(4)).map(four).flat_map(|block| {
        let (numbers, _) = block.as_chunks::<16>();
        [numbers[0], numbers[1], numbers[2], numbers[3]]
    });
    blocks.take(terms.len()).map(|bytes| Scalar::from(u128::from_le_bytes(bytes))).collect()
}

/// So that this hash is none of those for `k`.
const DOMAIN: &[u8] = b"pbft: weights of signatures that are verified together";

/// `sum z(sB - kA - R)`.
fn weighted_sum(terms: &[Terms], weights: &[Scalar]) -> EdwardsPoint {
    let of_base: Scalar = terms.iter().zip(weights).map(|(of, z)| z * of.s).sum();
    let of_keys = terms.iter().zip(weights).map(|(of, z)| -(z * of.k));
    // Not `-z`, which would have 253 bits and not 128.
    let of_rs = weights.iter().copied();
    EdwardsPoint::vartime_multiscalar_mul(
        once(of_base).chain(of_keys).chain(of_rs),
        once(ED25519_BASEPOINT_POINT)
            .chain(terms.iter().map(|of| of.key))
            .chain(terms.iter().map(|of| -of.r)),
    )
}

#[cfg(test)]
mod tests {
    use super::super::known_key::tests::of_small_order;
    use super::*;
    use curve25519_dalek::constants::EIGHT_TORSION;
    use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
    use ed25519_zebra::{Signature, VerificationKey, VerificationKeyBytes, batch};
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    struct Crafted {
        key: [u8; 32],
        message: Vec<u8>,
        signature: [u8; 64],
    }

    fn number(seed: u64) -> Scalar {
        Scalar::from_bytes_mod_order_wide(&Sha512::digest(seed.to_le_bytes()).into())
    }

    fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
        let hash = Sha512::new().chain_update(r).chain_update(key).chain_update(message);
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
    }

    fn crafted(key: [u8; 32], message: &[u8], r: [u8; 32], s: [u8; 32]) -> Crafted {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(&s);
        Crafted { key, message: message.to_vec(), signature }
    }

    fn honest(seed: u8) -> Crafted {
        let (signer, message) = (SigningKey::from_bytes(&[seed; 32]), vec![seed; usize::from(seed)]);
        let signature = signer.sign(&message).to_bytes();
        Crafted { key: signer.verifying_key().to_bytes(), message, signature }
    }

    /// By the code under test. Where keys are read they are decoded once: no point, no signature.
    fn are_valid(all: &[Crafted]) -> bool {
        let keys: Option<Vec<EdwardsPoint>> =
            all.iter().map(|one| CompressedEdwardsY(one.key).decompress()).collect();
        let Some(keys) = keys else { return false };
        let claimed: Vec<Claimed<'_>> = (keys.into_iter().zip(all))
            .map(|(key, one)| {
                let (some, more) = one.message.split_at(one.message.len() / 2);
                Claimed { key, key_bytes: &one.key, message: [some, more], signature: &one.signature }
            })
            .collect();
        all_valid(&claimed)
    }

    fn is_valid_by_zebra(one: &Crafted) -> bool {
        VerificationKey::try_from(one.key)
            .is_ok_and(|key| key.verify(&Signature::from(one.signature), &one.message).is_ok())
    }

    fn are_valid_by_zebra(all: &[Crafted]) -> bool {
        let mut verifier = batch::Verifier::new();
        for one in all {
            let key = VerificationKeyBytes::from(one.key);
            verifier.queue((key, Signature::from(one.signature), &one.message));
        }
        verifier.verify(rand::make_rng::<rand_chacha::ChaCha8Rng>()).is_ok()
    }

    fn is_strictly_valid(one: &Crafted) -> bool {
        VerifyingKey::from_bytes(&one.key)
            .is_ok_and(|key| key.verify_strict(&one.message, &Signature::from_bytes(&one.signature)).is_ok())
    }

    /// What is found of one alone, and among others in each number and place that is tried: the same, and what the
    /// library says.
    fn judged(one: &Crafted) -> bool {
        let alone = are_valid(std::slice::from_ref(one));
        assert_eq!(alone, is_valid_by_zebra(one), "{one:?}");
        assert!(alone || !is_strictly_valid(one), "what is strictly valid is valid: {one:?}");
        let others: Vec<Crafted> = (0..63).map(honest).collect();
        for (before, after) in [(0, 0), (0, 1), (1, 0), (1, 1), (2, 1), (31, 32), (63, 0)] {
            let all =
                [&others[..before], std::slice::from_ref(one), &others[before..before + after]].concat();
            assert_eq!(are_valid(&all), alone, "{before} before and {after} after {one:?}");
        }
        assert_eq!(are_valid(&[one.clone(), one.clone()]), alone);
        assert_eq!(are_valid_by_zebra(&[one.clone(), others[0].clone()]), alone);
        let mut bad = others[5].clone();
        bad.message.push(0);
        assert!(!are_valid(&[one.clone(), bad]));
        alone
    }

    /// Every combination of a key and a commitment with parts of small order, or nothing but such, with the `s` that
    /// belongs to what is not of small order: all of them are valid, and most are not strictly.
    #[test]
    fn keys_and_commitments_with_parts_of_small_order_are_valid_alone_and_together() {
        let mut strictly = 0;
        for (secret, nonce) in [
            (number(1), number(2)),
            (Scalar::ZERO, number(3)),
            (number(4), Scalar::ZERO),
            (Scalar::ZERO, Scalar::ZERO),
        ] {
            for of_key in EIGHT_TORSION {
                for of_r in EIGHT_TORSION {
                    let key = (EdwardsPoint::mul_base(&secret) + of_key).compress().to_bytes();
                    let r = (EdwardsPoint::mul_base(&nonce) + of_r).compress().to_bytes();
                    let s = nonce + challenge(&r, &key, b"message") * secret;
                    let one = crafted(key, b"message", r, s.to_bytes());
                    assert!(judged(&one));
                    strictly += u32::from(is_strictly_valid(&one));
                }
            }
        }
        assert!((1..128).contains(&strictly), "{strictly}");
    }

    #[test]
    fn encodings_that_no_encoder_makes_are_judged_alike_alone_and_together() {
        let small = of_small_order();
        let secret = number(5);
        let public = EdwardsPoint::mul_base(&secret).compress().to_bytes();
        for &r in &small {
            // R of small order, however it is written, with the s that belongs to zero.
            let s = challenge(&r, &public, b"message") * secret;
            assert!(judged(&crafted(public, b"message", r, s.to_bytes())));
            assert!(!judged(&crafted(public, b"message", r, [0; 32])));
            for &key in &small {
                assert!(judged(&crafted(key, b"message", r, [0; 32])));
                assert!(!judged(&crafted(key, b"message", r, Scalar::ONE.to_bytes())));
            }
        }
        // Numbers below 2^255 that are the ordinate of no point.
        let none: Vec<[u8; 32]> = (2..20_u8)
            .map(|low| [&[low][..], &[0; 31]].concat().try_into().expect("32 bytes"))
            .filter(|bytes| CompressedEdwardsY(*bytes).decompress().is_none())
            .collect();
        assert!(none.len() > 3);
        for no_point in none {
            assert!(!judged(&crafted(public, b"message", no_point, [0; 32])));
            assert!(!judged(&crafted(no_point, b"message", small[0], [0; 32])));
        }
    }

    #[test]
    fn a_number_of_the_order_or_above_is_no_s() {
        let one = honest(9);
        assert!(judged(&one));
        // l, the order of the base point.
        let order: [u8; 32] = {
            let mut bytes = (-Scalar::ONE).to_bytes();
            bytes[0] += 1;
            bytes
        };
        let mut more = one;
        for _ in 0..8 {
            let mut carry = 0;
            for (byte, of_order) in more.signature[32..].iter_mut().zip(order) {
                let sum = u16::from(*byte) + u16::from(of_order) + carry;
                (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
            }
            assert!(!judged(&more));
        }
    }

    /// Two signatures whose errors are each other's opposite: a sum without weights would not see them.
    #[test]
    fn errors_do_not_cancel_each_other() {
        let (mut one, mut other) = (honest(3), honest(4));
        let add = |to: &mut Crafted, what: Scalar| {
            let s: [u8; 32] = to.signature[32..].try_into().expect("half");
            let s = Option::<Scalar>::from(Scalar::from_canonical_bytes(s)).expect("it is canonical") + what;
            to.signature[32..].copy_from_slice(s.as_bytes());
        };
        add(&mut one, Scalar::ONE);
        add(&mut other, -Scalar::ONE);
        assert!(!are_valid(&[one.clone(), other.clone()]));
        assert!(!are_valid(&[honest(1), one, honest(2), other]));
    }

    #[test]
    fn none_at_all_are_all_valid() {
        assert!(are_valid(&[]));
    }

    /// A signature, and what is done to it.
    fn any_crafted() -> impl Strategy<Value = Crafted> {
        (0..8_u8, 0..10_u8, 0..64_usize, 0..8_u8, any::<[u8; 32]>()).prop_map(
            |(seed, how, at, bit, random)| {
                let mut one = honest(seed);
                let torsion = EIGHT_TORSION[at % 8];
                match how {
                    0 => one.signature[at] ^= 1 << bit,
                    1 => one.message.push(bit),
                    2 => one.key = honest(seed + 1).key,
                    3 => one.signature[..32].copy_from_slice(&random),
                    4 => {
                        // Another commitment of the same signer, moved by a point of small order.
                        let hash = Sha512::digest([seed; 32]);
                        let mut low: [u8; 32] = hash[..32].try_into().expect("half");
                        low[0] &= 248;
                        low[31] = (low[31] & 63) | 64;
                        let (secret, nonce) = (Scalar::from_bytes_mod_order(low), number(u64::from(bit)));
                        let r = (EdwardsPoint::mul_base(&nonce) + torsion).compress().to_bytes();
                        let s = nonce + challenge(&r, &one.key, &one.message) * secret;
                        return crafted(one.key, &one.message, r, s.to_bytes());
                    }
                    5 => one.signature.swap(at, 63 - at),
                    _ => {}
                }
                one
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn together_are_valid_what_is_valid_alone(all in proptest::collection::vec(any_crafted(), 0..12)) {
            let each = all.iter().all(|one| are_valid(std::slice::from_ref(one)));
            prop_assert_eq!(each, all.iter().all(is_valid_by_zebra));
            prop_assert_eq!(are_valid(&all), each);
            prop_assert_eq!(are_valid_by_zebra(&all), each);
        }
    }

    /// `cargo test --release -p pbft --lib cofactored -- --ignored --nocapture cost`
    #[test]
    #[ignore = "a measurement"]
    fn cost() {
        for count in [1_u8, 2, 4, 8, 16, 32, 64] {
            let all: Vec<Crafted> = (0..count).map(honest).collect();
            let keys: Vec<EdwardsPoint> =
                all.iter().map(|one| CompressedEdwardsY(one.key).decompress().expect("a key")).collect();
            let rounds = 2_000 / u32::from(count);
            let once = || {
                let claimed: Vec<Claimed<'_>> = (keys.iter().zip(&all))
                    .map(|(&key, one)| Claimed {
                        key,
                        key_bytes: &one.key,
                        message: [&one.message, &[]],
                        signature: &one.signature,
                    })
                    .collect();
                assert!(all_valid(&claimed));
            };
            let best = (0..7).map(|_| {
                let before = std::time::Instant::now();
                (0..rounds).for_each(|_| once());
                before.elapsed() / rounds / u32::from(count)
            });
            println!("{count}: {:?} each", best.min().expect("seven"));
        }
    }
}
