//! Reads the users in a bitmap, piece by piece.

use ::redis::{Cmd, Value, cmd};

use crate::sets::UserId;
use crate::store::redis::capabilities::Capabilities;
use crate::store::redis::connection::{
    Batch, RedisConnection, Reply, accept, go_on, integer, last, natural, unexpected,
};
use crate::store::redis::server_eval::{expiry, vanished};

/// The size of the first piece, in bytes. Each piece is twice as long as the one before, so that
/// neither a short list from a dense bitmap nor a long one from a sparse bitmap reads much more
/// than it needs.
const FIRST_PIECE: u64 = 4 << 10;

/// The largest piece, in bytes.
const LARGEST_PIECE: u64 = 1 << 20;

/// A bitmap on the server.
pub(super) struct Bitmap<'a> {
    pub key: &'a str,
    /// Whether it is a temporary key of this request, whose expiry must be renewed.
    pub temporary: bool,
}

impl Bitmap<'_> {
    /// Users in ascending order, after `after`, at most `limit`.
    pub fn read(
        &self,
        conn: &mut RedisConnection,
        capabilities: &Capabilities,
        after: Option<UserId>,
        limit: usize,
    ) -> Reply<Vec<UserId>> {
        let mut users = Vec::new();
        let first = match after {
            Some(UserId::MAX) => return Ok(users),
            Some(after) => after + 1,
            None => 0,
        };
        if limit == 0 {
            return Ok(users);
        }
        if !capabilities.ranges {
            let whole = bytes(
                "GET",
                last(&mut self.ask(conn, capabilities, &[cmd("GET").arg(self.key)])?),
            )?;
            collect(&whole, 0, first, limit, &mut users);
            return Ok(users);
        }
        let mut piece = FIRST_PIECE;
        let mut start = self.next_byte(conn, capabilities, u64::from(first / 8))?;
        while let Some(at) = start.filter(|_| users.len() < limit) {
            go_on()?;
            // One trip reads the piece and finds the start of the next one.
            let mut replies = self.ask(
                conn,
                capabilities,
                &[
                    cmd("GETRANGE").arg(self.key).arg(at).arg(at + piece - 1),
                    cmd("BITPOS").arg(self.key).arg(1).arg(at + piece),
                ],
            )?;
            start = position(&last(&mut replies))?;
            collect(
                &bytes("GETRANGE", last(&mut replies))?,
                at,
                first,
                limit,
                &mut users,
            );
            piece = (piece * 2).min(LARGEST_PIECE);
        }
        Ok(users)
    }

    /// The byte that holds the first user, from a byte on.
    fn next_byte(
        &self,
        conn: &mut RedisConnection,
        capabilities: &Capabilities,
        from: u64,
    ) -> Reply<Option<u64>> {
        let mut replies = self.ask(
            conn,
            capabilities,
            &[cmd("BITPOS").arg(self.key).arg(1).arg(from)],
        )?;
        position(&last(&mut replies))
    }

    fn ask(
        &self,
        conn: &mut RedisConnection,
        capabilities: &Capabilities,
        commands: &[&mut Cmd],
    ) -> Reply<Vec<Value>> {
        let alive = if self.temporary {
            expiry(self.key, capabilities)
        } else {
            None
        };
        let mut batch = Batch::of(&alive);
        commands.iter().for_each(|command| batch.push(command));
        let replies = conn.trip(&batch)?;
        let mut replies = replies
            .into_iter()
            .map(|r| accept(r, Some(self.key.to_owned())))
            .collect::<Reply<Vec<Value>>>()?;
        // If the key expired, the replies would look like the end of the list.
        if alive.is_some() && natural("PEXPIRE", &replies.remove(0))? == 0 {
            return Err(vanished());
        }
        Ok(replies)
    }
}

fn position(reply: &Value) -> Reply<Option<u64>> {
    Ok(u64::try_from(integer("BITPOS", reply)?)
        .ok()
        .map(|bit| bit / 8))
}

fn bytes(command: &str, reply: Value) -> Reply<Vec<u8>> {
    match reply {
        Value::BulkString(bytes) => Ok(bytes),
        Value::Nil => Ok(Vec::new()),
        other => Err(unexpected(command, &other)),
    }
}

/// Adds the users from `first` on in a piece of a bitmap that begins at byte `at`.
fn collect(piece: &[u8], at: u64, first: UserId, limit: usize, users: &mut Vec<UserId>) {
    for (byte, bits) in (at..).zip(piece).filter(|(_, bits)| **bits != 0) {
        for bit in (0..8_u8).filter(|bit| bits & (0x80 >> bit) != 0) {
            // A Redis string has at most 2³² bits by default. Where that limit was raised, bits
            // beyond it are not users.
            let Ok(user) = UserId::try_from(byte * 8 + u64::from(bit)) else {
                return;
            };
            if users.len() == limit {
                return;
            }
            if user >= first {
                users.push(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::collect;

    #[test]
    fn bits_are_counted_from_the_highest() {
        let read = |first, limit| {
            let mut users = Vec::new();
            collect(&[0b1000_0001, 0, 0b0100_0000], 1, first, limit, &mut users);
            users
        };
        assert_eq!(read(0, 9), [8, 15, 25]);
        assert_eq!(read(9, 9), [15, 25]);
        assert_eq!(read(9, 1), [15]);
        let mut users = Vec::new();
        collect(&[0xff, 0xff], (1 << 29) - 1, 0, 99, &mut users);
        assert_eq!((users.len(), users.last()), (8, Some(&u32::MAX)));
    }
}
