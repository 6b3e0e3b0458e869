// SPDX-License-Identifier: MIT OR Apache-2.0
//! What rides on a frame besides its picture, and the bytes that carry it: captions and bars as ATSC A/53 part 4
//! has them, the active format as SMPTE ST 2016-1 and A/53 have it.

use gst_video::video_meta::{VideoAFDMeta, VideoBarMeta, VideoCaptionMeta};
use gst_video::{VideoCaptionType, VideoTimeCode, VideoTimeCodeMeta};

/// Country and provider of ATSC in ITU-T T.35.
const ATSC: &[u8] = &[0xb5, 0x00, 0x31];
/// The most triplets that a frame has room for.
const MOST_TRIPLETS: usize = 31;

/// What a frame carries.
#[derive(Clone, Debug, Default)]
pub struct Ancillary {
    /// Triplets of `cc_data`, CEA-608 and CEA-708.
    pub captions: Vec<u8>,
    /// Active format description, 4 bits.
    pub format: Option<u8>,
    /// Whether the bars are above and below, and where they end and begin.
    pub bars: Option<(bool, u16, u16)>,
    /// SMPTE ST 12 time code.
    pub timecode: Option<VideoTimeCode>,
}

impl Ancillary {
    /// Reads the metas of a frame.
    pub fn of(buffer: &gst::BufferRef) -> Self {
        let captions = buffer.iter_meta::<VideoCaptionMeta>();
        let raw = captions.filter(|meta| meta.caption_type() == VideoCaptionType::Cea708Raw);
        let narrow = |value: u32| u16::try_from(value).unwrap_or(0x3fff).min(0x3fff);
        Self {
            captions: raw.flat_map(|meta| meta.data().to_vec()).collect(),
            format: buffer.meta::<VideoAFDMeta>().map(|meta| afd(meta.afd())),
            bars: buffer
                .meta::<VideoBarMeta>()
                .map(|meta| (meta.is_letterbox(), narrow(meta.bar_data1()), narrow(meta.bar_data2()))),
            timecode: buffer.meta::<VideoTimeCodeMeta>().map(|meta| meta.tc().into()),
        }
    }

    /// `user_data` of each kind, as it follows a user data start code in MPEG-2.
    pub fn user_data(&self, with_captions: bool) -> Vec<Vec<u8>> {
        let mut all = Vec::new();
        if let Some(format) = self.format {
            // active_format_flag, then reserved ones.
            all.push([&b"DTG1"[..], &[0x41, 0xf0 | format]].concat());
        }
        if let Some((letterbox, first, second)) = self.bars {
            let [a, b] = [first, second].map(|line| (0xc000 | line).to_be_bytes());
            let which = if letterbox { 0xcf } else { 0x3f };
            all.push([&b"GA94\x06"[..], &[which], &a, &b].concat());
        }
        let triplets = self.captions.len() / 3;
        if with_captions && triplets > 0 {
            let count = triplets.min(MOST_TRIPLETS);
            // process_cc_data_flag; em_data; the triplets; marker_bits.
            let head = [0xc0 | count as u8, 0xff];
            all.push([&b"GA94\x03"[..], &head, &self.captions[..3 * count], &[0xff]].concat());
        }
        all
    }

    /// The same as payloads of `user_data_registered_itu_t_t35`.
    pub fn registered(&self, with_captions: bool) -> Vec<Vec<u8>> {
        self.user_data(with_captions).iter().map(|data| [ATSC, data].concat()).collect()
    }
}

/// The 4 bits of SMPTE ST 2016-1.
fn afd(value: gst_video::VideoAFDValue) -> u8 {
    gst::glib::translate::IntoGlib::into_glib(value).clamp(0, 15) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_those_of_the_standards() {
        let all = Ancillary {
            captions: vec![0xfc, 0x94, 0x20, 0xfd, 0x80, 0x80],
            format: Some(10),
            bars: Some((true, 60, 1021)),
            timecode: None,
        };
        let data = all.user_data(true);
        assert_eq!(data[0], b"DTG1\x41\xfa");
        assert_eq!(data[1], b"GA94\x06\xcf\xc0\x3c\xc3\xfd");
        assert_eq!(data[2], b"GA94\x03\xc2\xff\xfc\x94\x20\xfd\x80\x80\xff");
        assert_eq!(all.registered(false)[0], b"\xb5\x00\x31DTG1\x41\xfa");
        assert_eq!(all.registered(false).len(), 2);
        assert!(Ancillary::default().user_data(true).is_empty());
    }
}
