//! Signatures of a key that is used again and again, verified with a table of its multiples.
//!
//! # The same signatures as `verify_strict`
//!
//! Let `A` be the key's point, `(R, s)` the signature (64 bytes), `M` the message, `B` the base point of prime order
//! `l`, and `k` the number below `l` that SHA-512 of `R`, the key's bytes and `M` gives. `verify_strict` of
//! ed25519-dalek 3.0 accepts if
//!
//! 1. `s`, read as a number, is below `l`;
//! 2. `R` is the encoding of a point (perhaps not its canonical one), which is not of small order;
//! 3. `A` is not of small order;
//! 4. the canonical encoding of `sB - kA` has the very bytes of `R`.
//!
//! By 4 whatever is accepted has for `R` the canonical encoding of `Q = sB - kA`, so decoding it succeeds and gives
//! `Q`: given 4, condition 2 says no more than that `Q` is not of small order. Here 1 is checked likewise, 3 when the
//! table is made, then `Q` is worked out and its order and its encoding are looked at. So the same signatures are
//! accepted, those with a non-canonical `R` by neither, and each is judged by itself.
//!
//! `Q` is the same point, not only up to small order: `k` is taken as the number that it is, and `kA` is a sum of
//! multiples of `A` whose factors add up to `k`, as it is in dalek. (`A` may have a part of small order, so that numbers
//! equal modulo `l` would not do.) Nothing here is secret, so nothing needs constant time.

use curve25519_dalek::constants::ED25519_BASEPOINT_POINT;
use curve25519_dalek::edwards::{CompressedEdwardsY, EdwardsPoint};
use curve25519_dalek::scalar::Scalar;
use curve25519_dalek::traits::Identity;
use sha2::{Digest as _, Sha512};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError, Weak};

/// Digits to the base 256, from -127 to 128: as many as a number below `l`, which is below 2^253, has.
const DIGITS: usize = 32;
/// The largest digit.
const LARGEST: usize = 128;

/// A digit's multiples of a point, for each of its places. 640 KiB.
struct Multiples(Box<[[EdwardsPoint; LARGEST]]>);

impl Multiples {
    fn of(point: EdwardsPoint) -> Self {
        let mut unit = point;
        let place = |_| {
            let mut multiple = unit;
            let all = std::array::from_fn(|number| {
                if number > 0 {
                    multiple += unit;
                }
                multiple
            });
            unit = multiple + multiple;
            all
        };
        Multiples((0..DIGITS).map(place).collect())
    }

    /// Adds this multiple to a sum.
    fn add_to(&self, mut sum: EdwardsPoint, factor: &Scalar) -> EdwardsPoint {
        for (place, digit) in self.0.iter().zip(digits(factor)) {
            let size = usize::from(digit.unsigned_abs());
            match size.checked_sub(1) {
                None => {}
                Some(entry) if digit > 0 => sum += place[entry],
                Some(entry) => sum -= place[entry],
            }
        }
        sum
    }
}

/// The digits of a number below `l`, the lowest first.
fn digits(number: &Scalar) -> [i16; DIGITS] {
    let mut carry = 0;
    number.to_bytes().map(|byte| {
        let digit = i16::from(byte) + carry;
        carry = i16::from(digit > LARGEST as i16);
        digit - 256 * carry
    })
}

static OF_BASE: LazyLock<Multiples> = LazyLock::new(|| Multiples::of(ED25519_BASEPOINT_POINT));

/// A key with a table. Making one costs as much as verifying some fifty signatures without.
pub(super) struct KnownKey {
    bytes: [u8; 32],
    /// Of `-A`.
    multiples: Multiples,
}

impl KnownKey {
    /// None for what is no key, and for a key of small order, of which no signature is valid.
    pub(super) fn new(bytes: [u8; 32]) -> Option<Self> {
        let point = CompressedEdwardsY(bytes).decompress().filter(|point| !point.is_small_order())?;
        Some(KnownKey { bytes, multiples: Multiples::of(-point) })
    }

    /// The table that this process has of the key, made if there is none.
    pub(super) fn shared(bytes: [u8; 32]) -> Option<Arc<Self>> {
        static ALL: Mutex<BTreeMap<[u8; 32], Weak<KnownKey>>> = Mutex::new(BTreeMap::new());
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&bytes).and_then(Weak::upgrade) {
            return Some(known);
        }
        let made = Arc::new(KnownKey::new(bytes)?);
        all.retain(|_, known| known.strong_count() > 0);
        all.insert(bytes, Arc::downgrade(&made));
        Some(made)
    }

    /// Whether a signature over a message, which is in parts, is valid.
    pub(super) fn verify(&self, message: &[&[u8]], signature: &[u8; 64]) -> bool {
        let (r, s) = signature.split_at(32);
        let s: Option<Scalar> =
            <[u8; 32]>::try_from(s).ok().and_then(|s| Scalar::from_canonical_bytes(s).into());
        let Some(s) = s else { return false };
        let hash = Sha512::new().chain_update(r).chain_update(self.bytes);
        let hash = message.iter().fold(hash, |hash, part| hash.chain_update(part));
        let k = Scalar::from_bytes_mod_order_wide(&hash.finalize().into());
        let q = self.multiples.add_to(OF_BASE.add_to(EdwardsPoint::identity(), &s), &k);
        q.compress().as_bytes() == r && !q.is_small_order()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use curve25519_dalek::constants::EIGHT_TORSION;
    use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
    use proptest::prelude::*;

    /// What both say of a signature: the same.
    fn is_valid(key: [u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        let known = KnownKey::new(key);
        let by_table = known.as_ref().is_some_and(|known| verify(known, message, signature));
        let strict = strict(key, message, signature);
        assert_eq!(by_table, strict, "key {}, {}", hex(&key), hex(signature));
        strict
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn verify(known: &KnownKey, message: &[u8], signature: &[u8; 64]) -> bool {
        let (some, more) = message.split_at(message.len() / 2);
        known.verify(&[some, more], signature)
    }

    fn strict(key: [u8; 32], message: &[u8], signature: &[u8; 64]) -> bool {
        let signature = Signature::from_bytes(signature);
        VerifyingKey::from_bytes(&key).is_ok_and(|key| key.verify_strict(message, &signature).is_ok())
    }

    fn scalar(seed: u64) -> Scalar {
        let hash = Sha512::digest(seed.to_le_bytes());
        Scalar::from_bytes_mod_order_wide(&hash.into())
    }

    fn challenge(r: &[u8; 32], key: &[u8; 32], message: &[u8]) -> Scalar {
        let hash = Sha512::new().chain_update(r).chain_update(key).chain_update(message);
        Scalar::from_bytes_mod_order_wide(&hash.finalize().into())
    }

    fn joined(r: [u8; 32], s: [u8; 32]) -> [u8; 64] {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&r);
        signature[32..].copy_from_slice(&s);
        signature
    }

    /// Encodings of points of small order: canonical ones, and those that no encoder makes, with `p` added to a
    /// small ordinate or a sign for an abscissa of zero.
    pub(in super::super) fn of_small_order() -> Vec<[u8; 32]> {
        let mut all: Vec<[u8; 32]> = EIGHT_TORSION.iter().map(|point| point.compress().to_bytes()).collect();
        for low in [0xec, 0xed, 0xee] {
            // p - 1, p and p + 1, which are -1, 0 and 1.
            let mut bytes = [0xff; 32];
            (bytes[0], bytes[31]) = (low, 0x7f);
            all.push(bytes);
        }
        let signed = all.clone().into_iter().map(|mut bytes| {
            bytes[31] ^= 0x80;
            bytes
        });
        all.extend(signed);
        all.sort_unstable();
        all.dedup();
        all
    }

    #[test]
    fn multiples_are_those_of_the_point() {
        let multiples = Multiples::of(ED25519_BASEPOINT_POINT);
        for seed in 0..50 {
            let factor = scalar(seed);
            let sum = multiples.add_to(EdwardsPoint::identity(), &factor);
            assert_eq!(sum, EdwardsPoint::mul_base(&factor));
        }
        for factor in [Scalar::ZERO, Scalar::ONE, -Scalar::ONE, Scalar::from(128_u8), Scalar::from(129_u8)] {
            let sum = multiples.add_to(EdwardsPoint::identity(), &factor);
            assert_eq!(sum, EdwardsPoint::mul_base(&factor));
        }
    }

    #[test]
    fn a_number_of_which_a_multiple_is_taken_is_not_reduced_where_the_point_has_another_order() {
        let point = ED25519_BASEPOINT_POINT + EIGHT_TORSION[1];
        let multiples = Multiples::of(point);
        for seed in 0..50 {
            let factor = scalar(seed);
            assert_eq!(multiples.add_to(EdwardsPoint::identity(), &factor), point * factor);
        }
    }

    #[test]
    fn keys_and_points_with_parts_of_small_order_are_judged_as_strictly() {
        let (mut accepted, mut refused) = (0, 0);
        for seed in 0..4_u64 {
            let (a, r) = (scalar(2 * seed), scalar(2 * seed + 1));
            for (secret, of_key) in [(a, EIGHT_TORSION), (Scalar::ZERO, EIGHT_TORSION)] {
                for (nonce, of_r) in [(r, EIGHT_TORSION), (Scalar::ZERO, EIGHT_TORSION)] {
                    for (key, commitment) in of_key.iter().flat_map(|key| of_r.iter().map(move |r| (key, r)))
                    {
                        let key = (EdwardsPoint::mul_base(&secret) + key).compress().to_bytes();
                        let r = (EdwardsPoint::mul_base(&nonce) + commitment).compress().to_bytes();
                        for message in [&b"one"[..], b"two", b"three", b"four"] {
                            let s = nonce + challenge(&r, &key, message) * secret;
                            let valid = is_valid(key, message, &joined(r, s.to_bytes()));
                            *(if valid { &mut accepted } else { &mut refused }) += 1;
                        }
                    }
                }
            }
        }
        // Of keys with a part of small order some are accepted: k times that part may be what R has, or nothing.
        assert!(accepted > 100 && refused > 100, "{accepted} and {refused}");
    }

    #[test]
    fn encodings_that_no_encoder_makes_are_judged_as_strictly() {
        let honest = SigningKey::from_bytes(&[7; 32]);
        let public = honest.verifying_key().to_bytes();
        let signature = honest.sign(b"message").to_bytes();
        assert!(is_valid(public, b"message", &signature));
        let (r, s): ([u8; 32], [u8; 32]) =
            (signature[..32].try_into().expect("half"), signature[32..].try_into().expect("half"));
        let small = of_small_order();
        assert!(small.len() >= 14, "{}", small.len());
        for &one in &small {
            assert!(!is_valid(public, b"message", &joined(one, s)));
            for s in [s, [0; 32], Scalar::ONE.to_bytes(), challenge(&one, &public, b"message").to_bytes()] {
                assert!(!is_valid(one, b"message", &joined(r, s)));
                for &other in &small {
                    assert!(!is_valid(one, b"message", &joined(other, s)));
                }
            }
        }
        // The order of the base point, and twice it, added to s.
        let order = hex_bytes("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010");
        let mut more = s;
        for _ in 0..8 {
            let mut carry = 0;
            for (byte, of_order) in more.iter_mut().zip(order) {
                let sum = u16::from(*byte) + u16::from(of_order) + carry;
                (*byte, carry) = (sum.to_le_bytes()[0], sum >> 8);
            }
            assert!(!is_valid(public, b"message", &joined(r, more)));
        }
    }

    fn hex_bytes(text: &str) -> [u8; 32] {
        std::array::from_fn(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hexadecimal"))
    }

    /// Signatures each of which something was done to.
    fn mangled(count: u64) -> (u64, u64) {
        let keys: Vec<SigningKey> = (0..3).map(|key| SigningKey::from_bytes(&[key; 32])).collect();
        let known: Vec<KnownKey> =
            keys.iter().map(|key| KnownKey::new(key.verifying_key().to_bytes()).expect("a key")).collect();
        let (mut accepted, mut refused) = (0, 0);
        let mut state = 1_u64;
        let mut random = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % below
        };
        for number in 0..count {
            let key = usize::try_from(random(3)).expect("small");
            let mut message = number.to_le_bytes().repeat(usize::try_from(random(20)).expect("small"));
            let mut signature = keys[key].sign(&message).to_bytes();
            let mut by = key;
            let at = usize::try_from(random(64)).expect("small");
            match random(8) {
                0 => {}
                1 => by = (key + 1) % 3,
                2 => message.push(0),
                3 => signature.swap(at, 63 - at),
                4 => {
                    let torsion = EIGHT_TORSION[1 + at % 7];
                    let r = CompressedEdwardsY(signature[..32].try_into().expect("half"));
                    let moved = r.decompress().expect("it is a point") + torsion;
                    signature[..32].copy_from_slice(moved.compress().as_bytes());
                }
                _ => signature[at] ^= 1 << random(8),
            }
            let by_table = verify(&known[by], &message, &signature);
            assert_eq!(
                by_table,
                strict(known[by].bytes, &message, &signature),
                "{number}: {}",
                hex(&signature)
            );
            *(if by_table { &mut accepted } else { &mut refused }) += 1;
        }
        (accepted, refused)
    }

    #[test]
    fn mangled_signatures_are_judged_as_strictly() {
        let (accepted, refused) = mangled(5_000);
        assert!(accepted > 400 && refused > 3_000, "{accepted} and {refused}");
    }

    #[test]
    #[ignore = "long: a million signatures"]
    fn a_million_mangled_signatures_are_judged_as_strictly() {
        println!("{:?}", mangled(1_000_000));
    }

    #[test]
    fn a_table_is_shared_while_it_is_used() {
        let key = SigningKey::from_bytes(&[9; 32]).verifying_key().to_bytes();
        let (one, other) = (KnownKey::shared(key).expect("a key"), KnownKey::shared(key).expect("a key"));
        assert!(Arc::ptr_eq(&one, &other));
        let first = Arc::downgrade(&one);
        drop((one, other));
        assert!(first.upgrade().is_none());
        assert!(KnownKey::shared(key).is_some());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn whatever_comes_is_judged_as_strictly(
            key in any::<[u8; 32]>(),
            secret in any::<[u8; 32]>(),
            message in any::<Vec<u8>>(),
            signature in any::<[u8; 32]>(),
            more in any::<[u8; 32]>(),
        ) {
            is_valid(key, &message, &joined(signature, more));
            let signer = SigningKey::from_bytes(&secret);
            let public = signer.verifying_key().to_bytes();
            prop_assert!(is_valid(public, &message, &signer.sign(&message).to_bytes()));
            is_valid(public, &message, &joined(signature, more));
        }
    }
}
