use super::*;
use curve25519_dalek::constants::EIGHT_TORSION;

const R0: Principal = Principal::Replica(ReplicaId(0));
const R1: Principal = Principal::Replica(ReplicaId(1));

#[test]
fn a_signature_is_its_signers_over_its_content_only() {
    let (rings, _) = KeyRing::insecure(1, 2, 0);
    let signature = Ed25519::sign(&rings[0], b"content");
    assert!(Ed25519::verify(&rings[1], R0, b"content", &signature));
    assert!(!Ed25519::verify(&rings[1], R1, b"content", &signature));
    assert!(!Ed25519::verify(&rings[1], R0, b"another", &signature));
}

#[test]
fn it_stays_so_when_signatures_are_verified_often() {
    let (rings, _) = KeyRing::insecure(1, 2, 0);
    let signature = Ed25519::sign(&rings[0], b"content");
    for _ in 0..3 * OFTEN {
        assert!(Ed25519::verify(&rings[1], R0, b"content", &signature));
        assert!(!Ed25519::verify(&rings[1], R1, b"content", &signature));
        assert!(!Ed25519::verify(&rings[1], R0, b"another", &signature));
    }
    assert!(rings[1].public.0.tables[&R0].known.get().is_some_and(Option::is_some));
}

#[test]
fn an_unlisted_signer_never_verifies() {
    let (rings, _) = KeyRing::insecure(1, 2, 0);
    let (more, _) = KeyRing::insecure(1, 3, 0);
    let signature = Ed25519::sign(&more[2], b"content");
    let outsider = Principal::Replica(ReplicaId(2));
    assert!(Ed25519::verify(&more[0], outsider, b"content", &signature));
    assert!(!Ed25519::verify(&rings[0], outsider, b"content", &signature));
}

#[test]
fn a_ring_to_verify_with_verifies_what_its_keys_have_signed_and_nothing_of_its_own() {
    let secret = [7; 32];
    let public = BTreeMap::from([(R0, KeyRing::public_key(&secret))]);
    let ring = KeyRing::new(Digest::NULL, R0, &secret, &public).unwrap();
    let verifying = KeyRing::verifying(Digest::NULL, &public).unwrap();
    assert!(Ed25519::verify(&verifying, R0, b"content", &Ed25519::sign(&ring, b"content")));
    let own = Ed25519::sign(&verifying, b"content");
    assert!(!Ed25519::verify(&verifying, Ed25519::signer(&verifying), b"content", &own));
    assert!(!Ed25519::verify(&verifying, R0, b"content", &own));
}

#[test]
fn a_signature_for_one_cluster_is_worth_nothing_in_another() {
    let secret = [7; 32];
    let public = BTreeMap::from([(R0, KeyRing::public_key(&secret))]);
    let here = KeyRing::new(Digest([1; 32]), R0, &secret, &public).unwrap();
    let there = KeyRing::new(Digest([2; 32]), R0, &secret, &public).unwrap();
    let signature = Ed25519::sign(&here, b"content");
    assert!(Ed25519::verify(&here, R0, b"content", &signature));
    assert!(!Ed25519::verify(&there, R0, b"content", &signature));
}

#[test]
fn a_key_of_small_order_is_refused() {
    // With R = 0 and s = 0 all signatures of such a key pass the cofactored equation.
    for point in EIGHT_TORSION {
        let public = BTreeMap::from([(R1, point.compress().to_bytes())]);
        assert_eq!(PublicKeys::new(&public).unwrap_err(), KeyError::OfSmallOrder(R1));
    }
}

#[test]
fn a_ring_refuses_a_secret_that_is_not_the_signers() {
    let public = BTreeMap::from([(R0, KeyRing::public_key(&[7; 32]))]);
    let error = KeyRing::new(Digest::NULL, R0, &[8; 32], &public).unwrap_err();
    assert_eq!(error, KeyError::NotTheSigners(R0));
}

// --- signed together ---

fn together(ring: &KeyRing, count: u8) -> (Vec<Vec<u8>>, Vec<SharedSignature>) {
    let contents: Vec<Vec<u8>> = (0..count).map(|number| vec![6, number]).collect();
    let signatures = Ed25519::sign_together(ring, &contents);
    (contents, signatures)
}

#[test]
fn what_is_signed_together_convinces_everybody_of_itself_and_of_nothing_else() {
    let (rings, _) = KeyRing::insecure(1, 2, 0);
    let (others, _) = KeyRing::insecure(1, 3, 0);
    let (contents, signatures) = together(&rings[0], 9);
    for (at, content) in contents.iter().enumerate() {
        for (by, signature) in signatures.iter().enumerate() {
            for ring in [&rings[1], &others[2]] {
                assert_eq!(Ed25519::verify_shared(ring, R0, content, signature), at == by);
            }
            assert!(!Ed25519::verify_shared(&rings[1], R1, content, signature));
            let mut forged = signature.clone();
            forged.signature.0[40] ^= 1;
            assert!(!Ed25519::verify_shared(&rings[1], R0, content, &forged));
        }
    }
    // Deterministic: a replay of a journal signs the same.
    assert_eq!(together(&rings[0], 9).1, signatures);
}

#[test]
fn a_single_message_is_signed_as_by_itself() {
    let (rings, _) = KeyRing::insecure(1, 2, 0);
    let (contents, signatures) = together(&rings[0], 1);
    assert_eq!(signatures, [Ed25519::sign(&rings[0], &contents[0]).into()]);
    assert!(Ed25519::verify_shared(&rings[1], R0, &contents[0], &signatures[0]));
    assert_eq!(together(&rings[0], 0).1, []);
}

#[test]
fn more_than_the_largest_tree_holds_are_several_trees() {
    let (rings, _) = KeyRing::insecure(1, 2, 0);
    let count = (1 << merkle::MAX_DEPTH) + 1;
    let contents: Vec<Vec<u8>> = (0..count).map(|number: u32| number.to_le_bytes().to_vec()).collect();
    let signatures = Ed25519::sign_together(&rings[0], &contents);
    let valid = |(content, signature): (&Vec<u8>, &SharedSignature)| {
        Ed25519::verify_shared(&rings[1], R0, content, signature)
    };
    assert!(contents.iter().zip(&signatures).all(valid));
    assert!(signatures[contents.len() - 1].path.0.is_empty());
}

/// The signature of a root is one on no message, and that on a message one of no root: whatever bytes there are.
#[test]
fn signatures_of_roots_and_of_messages_do_not_pass_for_each_other() {
    let (rings, _) = KeyRing::insecure(1, 2, 0);
    let (contents, signatures) = together(&rings[0], 4);
    let root = signatures[0].path.root(Ed25519::digest, &contents[0]).unwrap();
    let of_root = signatures[0].signature;
    // What begins with the tag of a kind of message is signed by `sign`, and ROOT is the tag of none.
    assert!((1..=10).chain(34..=36).all(|tag| tag != merkle::ROOT));
    for content in contents.iter().chain([&root.0.to_vec()]) {
        assert!(!Ed25519::verify(&rings[1], R0, content, &of_root));
        assert!(!Ed25519::verify_shared(&rings[1], R0, content, &of_root.into()));
    }
    // A replica that signs the bytes of a root as a message, whose tag they then follow.
    let vote = [&[3], &merkle::root_to_be_signed(root)[..]].concat();
    let of_vote = Ed25519::sign(&rings[0], &vote);
    let shared = SharedSignature { signature: of_vote, path: signatures[0].path.clone() };
    assert!(!Ed25519::verify_shared(&rings[1], R0, &contents[0], &shared));
}

#[test]
fn roots_that_were_verified_are_remembered_for_their_signer_and_cluster_only_and_few_of_them() {
    let public = |secret: u8| KeyRing::public_key(&[secret; 32]);
    let keys = PublicKeys::new(&BTreeMap::from([(R0, public(1)), (R1, public(2))])).unwrap();
    let ring =
        |domain, who, secret| KeyRing::among(Digest([domain; 32]), who, &[secret; 32], keys.clone()).unwrap();
    let (here, there) = (ring(1, R0, 1), ring(2, R0, 1));
    let remembered = || keys.0.roots().0.values().map(VecDeque::len).sum::<usize>();
    let (contents, signatures) = together(&here, 3);
    let valid = |ring, who, at: usize, signature| Ed25519::verify_shared(ring, who, &contents[at], signature);
    // Nothing that is refused is remembered.
    let mut forged = signatures[0].clone();
    forged.signature.0[1] ^= 1;
    for _ in 0..2 {
        assert!(!valid(&here, R0, 0, &forged));
        assert!(!valid(&here, R1, 0, &signatures[0]));
        assert!(!valid(&there, R0, 0, &signatures[0]));
        assert!(!valid(&here, R0, 1, &signatures[0]));
    }
    assert_eq!(remembered(), 0);
    for at in [0, 1, 2, 0] {
        assert!(valid(&here, R0, at, &signatures[at]));
        assert_eq!(remembered(), 1);
    }
    // What is remembered helps nobody else, nor another content, nor another signature of the same root.
    assert!(!valid(&here, R0, 0, &forged));
    assert!(!valid(&here, R1, 0, &signatures[0]));
    assert!(!valid(&there, R0, 0, &signatures[0]));
    assert!(!valid(&here, R0, 1, &signatures[0]));
    assert!(valid(&here, R0, 0, &signatures[0]));
    for number in 0..100_u8 {
        let contents = [vec![6, number], vec![7, number]];
        let signatures = Ed25519::sign_together(&here, &contents);
        assert!(Ed25519::verify_shared(&here, R0, &contents[1], &signatures[1]));
    }
    assert_eq!(remembered(), ROOTS);
}
