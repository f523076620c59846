//! Frames of messages that never become whole.

/// The last piece, of one byte, of a message of two pieces: of no other do so many find room at a receiver at a
/// time. The form is that of `runtime::frame`, which has no way to write half a message.
pub fn alone(id: u64) -> Vec<u8> {
    let mut frame = vec![0xb5, 2];
    frame.extend(id.to_le_bytes());
    frame.extend(1u16.to_le_bytes());
    frame.extend(2u16.to_le_bytes());
    frame.extend(257u32.to_le_bytes());
    frame.push(7);
    frame
}
