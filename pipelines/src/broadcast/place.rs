// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where a transport stream comes from and goes to: a file, UDP, RTP or SRT.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::exit::usage;

/// Schemes, besides files.
const SCHEMES: &[&str] = &["udp", "rtp", "srt"];
/// Bytes that the system may hold for us between two reads.
const SOCKET_BYTES: u32 = 4 << 20;
/// Name of the sink that tells whether the peer has answered.
pub const PEER: &str = "peer";
/// How long SRT waits before it looks whether it is to end, in milliseconds.
const POLL_MS: u32 = 100;
/// RTP's number for transport streams (RFC 3551).
const RTP_CAPS: &str = "application/x-rtp,media=video,clock-rate=90000,encoding-name=MP2T,payload=33";
/// A transport stream, as datagrams carry it.
const TS_CAPS: &str = "video/mpegts,systemstream=(boolean)true,packetsize=188";

/// One end of the job.
#[derive(Clone, Debug, PartialEq)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// Datagrams of transport packets, or of RTP with them in it.
    Datagrams {
        /// Whether in RTP.
        rtp: bool,
        /// Address or group; unspecified means every address of this machine.
        host: IpAddr,
        /// Port.
        port: u16,
    },
    /// SRT, with its URI.
    Srt(String),
}

impl Place {
    /// Reads what the command line names.
    pub fn parse(text: &Path) -> Result<Self> {
        let Some((scheme, rest)) = text.to_str().and_then(|text| text.split_once("://")) else {
            return Ok(Self::File(text.to_owned()));
        };
        let wrong = |why: &str| usage(format!("{}: {why}", text.display()));
        match scheme {
            "srt" => {
                let authority = rest.split(['?', '/']).next().unwrap_or_default();
                let port = authority.rsplit(':').next().and_then(|port| port.parse::<u16>().ok());
                port.filter(|&port| port > 0).ok_or_else(|| wrong("srt://HOST:PORT needs a port"))?;
                Ok(Self::Srt(format!("srt://{rest}")))
            }
            "udp" | "rtp" => {
                let (host, port) = rest.rsplit_once(':').ok_or_else(|| wrong("the port is missing"))?;
                let port = port.parse().ok().filter(|&port: &u16| port > 0);
                let port = port.ok_or_else(|| wrong("the port is a number from 1 to 65535"))?;
                let host = host.trim_matches(['[', ']', '@']);
                let host = if host.is_empty() { "0.0.0.0" } else { host };
                let host = host.parse().map_err(|_| wrong("the host is an address in numbers"))?;
                Ok(Self::Datagrams { rtp: scheme == "rtp", host, port })
            }
            _ => Err(wrong(&format!("known are files and {}", SCHEMES.join("://, ") + "://"))),
        }
    }

    /// Whether it has a clock of its own and cannot wait.
    pub fn is_live(&self) -> bool {
        !matches!(self, Self::File(_))
    }

    /// Elements that give transport packets; RTP is put in order within so many milliseconds.
    pub fn source(&self, reorder_ms: u64) -> String {
        match self {
            Self::File(path) => format!("filesrc location={}", quoted(&path.display().to_string())),
            Self::Datagrams { rtp, host, port } => {
                let caps = if *rtp { RTP_CAPS } else { TS_CAPS };
                let after = if *rtp {
                    format!(" ! rtpjitterbuffer latency={reorder_ms} ! rtpmp2tdepay")
                } else {
                    String::new()
                };
                format!("udpsrc address={host} port={port} buffer-size={SOCKET_BYTES} caps=\"{caps}\"{after}")
            }
            Self::Srt(uri) => format!("srtsrc uri={} poll-timeout={POLL_MS}", quoted(uri)),
        }
    }

    /// Whether somebody has to answer before it works.
    pub fn calls(&self) -> bool {
        // Without a host, SRT listens.
        matches!(self, Self::Srt(uri) if !uri.starts_with("srt://:") && !uri.contains("mode=listener"))
    }

    /// Elements that take transport packets, which come in time; none for a file.
    pub fn sink(&self) -> Option<String> {
        match self {
            Self::File(_) => None,
            Self::Datagrams { rtp, host, port } => {
                let pay = if *rtp { "rtpmp2tpay pt=33 ! " } else { "" };
                Some(format!("{pay}udpsink host={host} port={port} sync=false async=false"))
            }
            // Who listens is there whether somebody has called or not; who calls fails if nobody answers.
            Self::Srt(uri) => Some(format!(
                "srtsink name={PEER} uri={} poll-timeout={POLL_MS} wait-for-connection={} auto-reconnect=false \
                 sync=false async=false",
                quoted(uri),
                self.calls()
            )),
        }
    }
}

/// Text as gst-launch's grammar quotes it.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Datagrams { rtp, host, port } => {
                write!(f, "{}://{host}:{port}", if *rtp { "rtp" } else { "udp" })
            }
            Self::Srt(uri) => f.write_str(uri),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_told_apart() {
        let of = |text: &str| Place::parse(Path::new(text));
        assert_eq!(of("a/b.ts").unwrap(), Place::File("a/b.ts".into()));
        let any = Place::Datagrams { rtp: false, host: "0.0.0.0".parse().unwrap(), port: 5000 };
        assert_eq!(of("udp://:5000").unwrap(), any);
        assert!(of("rtp://239.1.1.1:5000").unwrap().source(50).contains("rtpjitterbuffer latency=50"));
        assert!(of("srt://127.0.0.1:7001?mode=caller").unwrap().sink().unwrap().contains("mode=caller"));
        assert!(!of("x.ts").unwrap().is_live() && of("x.ts").unwrap().sink().is_none());
        for (text, word) in [
            ("udp://127.0.0.1", "port"),
            ("udp://127.0.0.1:0", "65535"),
            ("rtp://host:1", "numbers"),
            ("srt://127.0.0.1", "port"),
            ("http://x", "srt://"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.to_string().contains(word) && crate::exit::of(&error) == 2, "{text}: {error}");
        }
    }
}
