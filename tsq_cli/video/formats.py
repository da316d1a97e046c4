"""Formats that are opened: those of files that hold their pictures themselves, not of files that name others."""

from __future__ import annotations

import re
from pathlib import Path

from tsq_cli.errors import NotAVideoError
from tsq_cli.video.media import Media, MediaBytes, open_media
from tsq_cli.video.remote import RemoteMedia

_VIDEO = (  # what cameras, editors, broadcasters, browsers and players write
    "mov,mp4,m4a,3gp,3g2,mj2 matroska,webm avi mpegts mpegtsraw mpeg flv live_flv kux asf asf_o ogg mxf gxf lxf nut "
    "nsv rm ivr wtv ty dv swf pva nuv cine r3d ser dhav ifv luodat hxvs iv8 lvf mxg moflex mods pmp psxstr xmv usm "
    "vividas vivo av1 obu ivf h261 h263 h264 hevc vvc evc apv avs2 avs3 cavsvideo dirac dnxhd ipu m4v mjpeg mjpeg_2000 "
    "mpegvideo mpjpeg ingenient vc1 vc1test yuv4mpegpipe lmlm4 simbiosis_imx msnwctcp nc filmstrip fits"
)
_GAMES = (
    "4xm anm argo_brp avs bethsoftvid bfi bink bmv c93 cdg cdxl dfa dsicin dxa ea ea_cdata film_cpk flic frm gdv hnm "
    "idcin iff ipmovie jv mgsts mm mtv mv mvi paf pdv rl2 roq rpl sga siff smjpeg smk smush thp tiertexseq tmv txd "
    "vmd wc3movie wsvqa yop"
)
_PICTURES = (
    "apng gif ico jpegxl_anim image2 image2pipe bmp_pipe cri_pipe dds_pipe dpx_pipe exr_pipe gem_pipe gif_pipe "
    "hdr_pipe j2k_pipe jpeg_pipe jpegls_pipe jpegxl_pipe jpegxs_pipe pam_pipe pbm_pipe pcx_pipe pfm_pipe pgm_pipe "
    "pgmyuv_pipe pgx_pipe phm_pipe photocd_pipe pictor_pipe png_pipe ppm_pipe psd_pipe qdraw_pipe qoi_pipe sgi_pipe "
    "sunrast_pipe tiff_pipe vbn_pipe webp_pipe xbm_pipe xpm_pipe xwd_pipe"
)
_SOUND = (  # opened, so that the error can say that there is only sound
    "aac ac3 ac4 aiff amr amrnb amrwb ape au caf dsf dts dtshd eac3 flac iamf loas mlp mp3 mpc mpc8 oma qcp qoa shn "
    "spdif tak truehd tta voc w64 wav wv xwma"
)
_OTHER = "tty"  # any text as ANSI art: opened, so that the error can say that it is text

FORMATS = ",".join(f"{_VIDEO} {_GAMES} {_PICTURES} {_SOUND} {_OTHER}".split())
"""FFmpeg's demuxers that read one file and nothing else.

An allow list, because no flag tells whether a demuxer opens files named inside a file, and because new versions of
FFmpeg bring new demuxers. Excluded because their files decide what else is read: hls, dash, imf, concat, sdp, rtsp,
rtp, sap, vobsub, mlv (files numbered after the first), lavfi, avisynth, vapoursynth, svg_pipe, and all devices.
Excluded because they hold no pictures: subtitles, chapters, raw samples.
"""


def options(media: Media) -> dict[str, str]:
    """Build the options with which FFmpeg opens a file."""
    # image2 opens files by name: it would read the two other planes of a .Y from .U and .V, and bytes have no file.
    is_apart = isinstance(media, MediaBytes | RemoteMedia) or Path(media).suffix.lower() == ".y"
    return {
        "format_whitelist": FORMATS.replace(",image2,", ",") if is_apart else FORMATS,
        "protocol_whitelist": "file",
        # A QuickTime track may lie in another file: FFmpeg's defaults, stated since much depends on them.
        "enable_drefs": "0",
        "use_absolute_path": "0",
        # A picture's name is its name: clip_%03d.png is one file, not a thousand.
        "pattern_type": "none",
    }


_HEAD_BYTES = 4096

_KINDS = (  # how each begins, case aside
    (r"#EXTM3U", "a playlist (HLS or M3U)"),
    (r"ffconcat version", "a playlist (FFmpeg's concat script)"),
    (r"\[(playlist|reference)\]", "a playlist (PLS or ASX)"),
    (r"v=0\r?\no=", "a session description (SDP)"),
    (r"# VobSub index file", "an index of subtitles (VobSub)"),
    (r"[a-z]{3,6}://\S+\s*$", "a list of addresses"),
)

_XML_KINDS = {  # by the name of the first element
    "mpd": "a playlist (DASH manifest)",
    "smoothstreamingmedia": "a playlist (Smooth Streaming manifest)",
    "compositionplaylist": "a playlist (IMF composition)",
    "assetmap": "a playlist (IMF asset map)",
    "smil": "a playlist (SMIL)",
    "asx": "a playlist (ASX)",
    "playlist": "a playlist (XSPF)",
}


def playlist(media: Media) -> NotAVideoError | None:
    """Build the error for a file that only names other files, known by its first bytes; None for any other file."""
    with open_media(media) as file:
        head = file.read(_HEAD_BYTES).removeprefix(b"\xef\xbb\xbf").lstrip().decode("latin-1")
    element = re.search(r"<(?:\w+:)?([a-z]\w*)", head, re.IGNORECASE) if head.startswith("<") else None
    kind = _XML_KINDS.get(element[1].lower()) if element else None
    for pattern, name in _KINDS:
        if re.match(pattern, head, re.IGNORECASE | re.MULTILINE):
            kind = name
    if kind is None:
        return None
    return NotAVideoError(
        f"{media} is {kind}, which names other files", wanted="a video file", fix="give the files that it names"
    )
