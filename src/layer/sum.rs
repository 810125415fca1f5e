//! CRC-32 and length of a tar: what tells cheaply whether it is the same. gzip computes it anyway, for each member, and
//! the sums of parts make that of the whole.

/// No proof against somebody who wants it to be mistaken: who can write into the store needs no such trick.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum {
    pub(crate) crc: u32,
    pub(crate) length: u64,
}

/// x^0 and x^8, the highest power in the lowest bit, as everywhere here.
const ONE: u32 = 1 << 31;
const BYTE: u32 = 1 << 23;
const POLYNOMIAL: u32 = 0xedb8_8320;

impl Sum {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let mut crc = libdeflater::Crc::with_initial(self.crc);
        crc.update(bytes);
        self.crc = crc.sum();
        self.length += bytes.len() as u64;
    }

    /// The sum of all that, and what `next` is of behind it.
    pub(super) fn then(self, next: Sum) -> Sum {
        Sum {
            crc: times(self.crc, zeros(next.length)) ^ next.crc,
            length: self.length + next.length,
        }
    }
}

/// What appending so many bytes of zeros multiplies a CRC by: x^(8n) modulo the polynomial.
fn zeros(mut n: u64) -> u32 {
    let (mut product, mut power) = (ONE, BYTE);
    while n > 0 {
        if n & 1 == 1 {
            product = times(product, power);
        }
        power = times(power, power);
        n >>= 1;
    }
    product
}

/// Multiplication of polynomials over two elements.
fn times(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    for bit in (0..32).rev() {
        if a >> bit & 1 == 1 {
            product ^= b;
        }
        b = if b & 1 == 1 { (b >> 1) ^ POLYNOMIAL } else { b >> 1 };
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(bytes: &[u8]) -> Sum {
        let mut sum = Sum::default();
        sum.add(bytes);
        sum
    }

    #[test]
    fn parts_make_the_whole() {
        // "Check" of CRC-32/ISO-HDLC.
        assert_eq!(of(b"123456789").crc, 0xcbf4_3926);
        let bytes: Vec<u8> = (0..100_000_u32).flat_map(|n| n.wrapping_mul(n).to_le_bytes()).collect();
        for cut in [0, 1, 7, 4096, 399_999, 400_000] {
            let (a, b) = bytes.split_at(cut);
            assert_eq!(of(a).then(of(b)), of(&bytes), "{cut}");
        }
        let many = bytes.chunks(333).map(of).fold(Sum::default(), Sum::then);
        assert_eq!(many, of(&bytes));
    }
}
