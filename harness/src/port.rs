//! A port on which nothing listens until something is to.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use tokio::net::TcpSocket;

/// A port of this machine that nobody else is given while this lives. Whoever connects to it is refused, and whoever names it, as a server
/// that is started for it does, may listen there.
#[derive(Debug)]
pub struct Port {
    // Bound, and never listening: where both sides allow it to be used again, as servers do, that keeps only those away who ask for any.
    _socket: TcpSocket,
    address: SocketAddr,
}

impl Port {
    /// A free one.
    ///
    /// # Errors
    /// When there is none.
    pub fn reserve() -> io::Result<Self> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr()?;
        Ok(Self { _socket: socket, address })
    }

    /// Where it is.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn nobody_is_given_it_and_who_names_it_listens() {
        let port = Port::reserve().expect("a port");
        assert!(TcpStream::connect(port.address()).is_err(), "nothing listens yet");
        let others: Vec<_> = (0..2000).map(|_| TcpListener::bind("127.0.0.1:0").expect("a port")).collect();
        let others: HashSet<_> = others.iter().map(|other| other.local_addr().expect("its address")).collect();
        assert!(!others.contains(&port.address()));
        let listener = TcpListener::bind(port.address()).expect("it is held for this");
        TcpStream::connect(port.address()).expect("it listens");
        drop(listener);
        let again = TcpListener::bind(port.address()).expect("and again");
        drop(again);
    }
}
