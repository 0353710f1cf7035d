"""Videos and animations as they come: what is read of them, and what of those that are broken."""

from __future__ import annotations

import math
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from d3.adapters.pillow import Limits
from d3.adapters.video import reader
from d3.adapters.video.reader import ClipLimits, ClipOfChild, IsolatedClips
from d3.adapters.video.source import memory_file
from d3.domain.clips import ALL_FRAMES, ClipEnd, ClipNote, ClipSource, Frame, FrameSampling
from d3.domain.errors import (
    DecodingInterrupted,
    ImageDamaged,
    ImageEmpty,
    ImageNotFound,
    ImageTooLarge,
    VideoInvalid,
    VideoTooLarge,
    VideoUnavailable,
)
from d3.domain.formats import sniff, sniff_clip
from movies import movie, scene, sound

CLIPS = IsolatedClips()
FASTSTART = {"movflags": "faststart"}


def read(
    source: ClipSource, sampling: FrameSampling = FrameSampling(), clips: IsolatedClips = CLIPS
) -> tuple[list[Frame], ClipOfChild]:
    clip = clips.open(source, sampling)
    return list(clip), clip


def times_of(frames: list[Frame]) -> list[float]:
    return [round(one.time, 3) for one in frames]


def test_a_frame_for_every_second_and_the_facts_of_the_file() -> None:
    frames, clip = read(movie(6, 10))
    assert times_of(frames) == [0, 1, 2, 3, 4, 5]
    assert (clip.facts.format, clip.facts.width, clip.facts.height) == ("MP4", 160, 96)
    assert (clip.facts.frames, clip.duration) == (60, pytest.approx(6))
    assert (clip.end, clip.notes) == (ClipEnd.WHOLE, ())
    assert frames[0].pixels.shape == (96, 160, 3)
    assert abs(int(frames[0].pixels.mean()) - int(scene(0).mean())) < 4


def test_each_frame_is_the_one_of_its_time() -> None:
    def picture(at: float) -> Any:
        return np.full((96, 160, 3), 20 + 3 * round(at * 10), np.uint8)

    frames, _ = read(movie(6, 10, picture=picture, options={"g": "250", "bf": "3"}))
    for one in frames:
        assert abs(one.pixels.mean() - (20 + 30 * one.time)) < 4


@pytest.mark.parametrize("kind", ["path", "bytes", "file", "memory"])
def test_clips_are_read_from_paths_bytes_and_open_files(tmp_path: Path, kind: str) -> None:
    data = movie(3)
    path = tmp_path / "clip.mp4"
    path.write_bytes(data)
    expected, clip = read(data)
    if kind == "path":
        frames, again = read(path)
    elif kind == "bytes":
        frames, again = read(data)
    elif kind == "file":
        with path.open("rb") as stream:
            stream.seek(5)
            frames, again = read(stream)
    else:
        with memory_file() as stream:
            stream.write(data)
            frames, again = read(stream)
    assert again.facts == clip.facts
    assert all((a.pixels == b.pixels).all() for a, b in zip(frames, expected, strict=True))


@pytest.mark.parametrize(
    ("container", "codec", "kind"),
    [
        ("mp4", "libx264", "MP4"),
        ("mp4", "libx265", "MP4"),
        ("mp4", "libsvtav1", "MP4"),
        ("mov", "mjpeg", "MOV"),
        ("matroska", "libx264", "MKV"),
        ("webm", "libvpx-vp9", "WEBM"),
        ("avi", "mpeg4", "AVI"),
        ("avi", "libx264", "AVI"),
        ("mpegts", "libx264", "MPEG-TS"),
        ("mpeg", "mpeg2video", "MPEG"),
        ("flv", "flv", "FLV"),
        ("asf", "wmv2", "WMV"),
    ],
)
def test_the_usual_containers_and_codecs_are_read(container: str, codec: str, kind: str) -> None:
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    fps = 25  # the only rate of both that MPEG-2 knows
    frames, clip = read(movie(3, fps, container, codec, pix_fmt=pix_fmt))
    assert clip.facts.format == kind
    assert clip.end is ClipEnd.WHOLE
    assert len(frames) == 3
    for at, one in enumerate(frames):
        assert abs(one.time - at) < 0.5
        assert abs(one.pixels.mean() - scene(0).mean()) < 6


def test_the_first_frames_after_cuts_are_judged_too() -> None:
    frames, _ = read(movie(6, 10, cuts=(2.5, 4.3)))
    # Frames that no other one needs are not decoded: then it is the next one.
    assert times_of(frames) == pytest.approx([0, 1, 2, 2.5, 3, 4, 4.3, 5], abs=0.15)
    assert [one.time for one in frames if one.is_cut] == pytest.approx([2.5, 4.3], abs=0.15)
    without, _ = read(movie(6, 10, cuts=(2.5, 4.3)), FrameSampling(cuts=False))
    assert times_of(without) == [0, 1, 2, 3, 4, 5]


def test_a_clip_that_is_longer_than_its_frames_allow_is_sampled_over_its_whole_length() -> None:
    frames, clip = read(movie(20, 10), FrameSampling(every=1, most=5))
    assert clip.notes == (ClipNote.SPARSE,)
    assert len(frames) == 4  # one is kept for a cut
    assert frames[-1].time >= 14


def test_never_more_frames_than_allowed_however_many_cuts() -> None:
    cuts = [0.5 * one for one in range(1, 20)]
    frames, _ = read(movie(10, 10, cuts=cuts), FrameSampling(every=2, most=8))
    assert len(frames) == 8


def test_all_frames_can_be_asked_for() -> None:
    frames, _ = read(movie(2, 10), ALL_FRAMES)
    assert times_of(frames) == [round(one / 10, 1) for one in range(20)]


def test_frames_where_decoding_can_begin_are_taken_where_they_are_near() -> None:
    frames, _ = read(movie(6, 10, options={"g": "13", "sc_threshold": "0"}))
    assert times_of(frames) == [0, 1.3, 2.1, 2.6, 3.9, 5.2]


def test_groups_of_pictures_that_lean_on_the_one_before_are_no_damage() -> None:
    options = {"x264-params": "open-gop=1:keyint=20:min-keyint=20:bframes=3:scenecut=0"}
    data = movie(20, 10, "mpegts", options=options)
    frames, clip = read(data, FrameSampling(every=5, cuts=False))
    assert clip.end is ClipEnd.WHOLE
    assert len(frames) == 4
    for one in frames:
        assert abs(one.pixels.mean() - scene(0).mean()) < 6


def test_an_index_at_the_end_and_one_at_the_start_give_the_same() -> None:
    late, _ = read(movie(4))
    early, _ = read(movie(4, container_options=FASTSTART))
    assert times_of(late) == times_of(early)


def test_a_clip_that_ends_early_is_judged_as_far_as_it_goes() -> None:
    noise = np.random.default_rng(0)

    def picture(_: float) -> Any:
        return noise.integers(0, 255, (96, 160, 3), np.uint8)

    for container, how in (("mp4", FASTSTART), ("matroska", {})):
        data = movie(10, 10, container, picture=picture, container_options=how)
        frames, clip = read(data[: len(data) * 6 // 10], FrameSampling(cuts=False))
        assert clip.end is ClipEnd.CUT_SHORT, container
        assert 4 <= len(frames) <= 8
        assert times_of(frames)[:3] == [0, 1, 2]


def test_a_clip_without_its_index_is_refused_in_a_sentence() -> None:
    data = movie(4)  # the index is at the end
    with pytest.raises(VideoInvalid, match="index is missing or broken") as caught:
        read(data[:-200])
    assert "ffmpeg" in caught.value.remedy


def test_one_that_is_damaged_in_the_middle_is_judged_by_the_rest() -> None:
    data = bytearray(movie(10, 10, options={"g": "10"}, container_options=FASTSTART))
    start = data.index(b"mdat") + 4
    middle = start + (len(data) - start) // 2
    data[middle : middle + 400] = bytes(400)
    frames, clip = read(bytes(data))
    assert 5 <= len(frames) <= 10
    assert clip.end in {ClipEnd.DAMAGED, ClipEnd.WHOLE}


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", ImageEmpty),
        (b"not a video", VideoInvalid),
        (b"\0\0\0\x18ftypisom" + bytes(100), VideoInvalid),
        (b"\x1aE\xdf\xa3" + bytes(range(256)) * 8, VideoInvalid),
        (sound(), VideoInvalid),
        (movie(0), VideoInvalid),
    ],
    ids=["empty", "text", "mp4 header", "mkv header", "sound", "no frames"],
)
def test_what_holds_no_video_is_refused(data: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        read(data)


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ImageNotFound):
        read(tmp_path / "none.mp4")
    with pytest.raises(ImageNotFound, match="folder"):
        read(tmp_path)
    os.mkfifo(tmp_path / "pipe.mp4")
    with pytest.raises(ImageNotFound, match="regular"):
        read(tmp_path / "pipe.mp4")


@pytest.mark.parametrize("form", ["JPEG", "PNG", "GIF"])
def test_a_still_is_no_clip_and_it_is_said_where_it_goes(form: str) -> None:
    target = BytesIO()
    Image.fromarray(scene(0)).save(target, form)
    with pytest.raises(VideoInvalid, match=f"still image .{form}") as caught:
        read(target.getvalue(), ALL_FRAMES)
    assert "/predict" in caught.value.remedy


def test_a_cover_is_no_video() -> None:
    target = BytesIO()
    with av.open(target, "w", "mp4") as file:
        stream = file.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 160, 96, "yuvj420p"
        stream.disposition = av.stream.Disposition.attached_pic
        frame = av.VideoFrame.from_ndarray(scene(0), "rgb24").reformat(format="yuvj420p")
        file.mux(stream.encode(frame))
        file.mux(stream.encode())
    with pytest.raises(VideoInvalid, match="only sound or a cover"):
        read(target.getvalue())


def test_of_several_videos_one_is_judged_and_that_is_said() -> None:
    frames, clip = read(movie(3, streams=2))
    assert len(frames) == 3
    assert clip.notes == (ClipNote.SEVERAL_STREAMS,)


def test_ten_hours_are_not_looked_at_to_their_end() -> None:
    hours = [60.0 * minute for minute in range(600)]
    clips = IsolatedClips(ClipLimits(seconds=1800))
    frames, clip = read(movie(times=hours), FrameSampling(every=60), clips)
    assert clip.end is ClipEnd.TOO_LONG
    assert times_of(frames)[-1] <= 1800
    assert 25 <= len(frames) <= 31


def test_a_clip_that_is_too_long_says_how_long_it_is_and_is_judged_up_to_the_limit() -> None:
    # B-frames: in the file, one of the last frames comes before some that are shown earlier.
    hours = [1800.0 * number for number in range(20)]
    for container in ("mp4", "matroska"):
        frames, clip = read(movie(times=hours, container=container, options={"bf": "3"}))
        assert clip.end is ClipEnd.TOO_LONG, container
        assert times_of(frames) == [0, 1800, 3600], container
        assert clip.facts.frames == 20
        assert clip.duration >= hours[-1]


@pytest.mark.parametrize("hidden", [1.5, 3.0, 5.0])
def test_frames_that_an_edit_list_hides_are_not_there(hidden: float) -> None:
    def picture(at: float) -> Any:
        return np.full((96, 160, 3), 20 + 20 * round(at + hidden), np.uint8)

    encoded = 10
    times = [one / 10 - hidden for one in range(10 * encoded)]
    for options in ({"g": "250"}, {"g": "12"}):  # all need the first one; some are hidden
        data = movie(times=times, picture=picture, options={**options, "bf": "3"})
        with av.open(BytesIO(data)) as file:
            shown = [float(one.pts * one.time_base) for one in file.decode(video=0)]
        frames, clip = read(data)
        assert clip.end is ClipEnd.WHOLE
        assert clip.facts.frames == len(shown)
        assert clip.duration == pytest.approx(encoded - hidden, abs=0.15)
        assert frames[0].time == pytest.approx(0, abs=0.15)
        assert len(frames) >= encoded - hidden - 1
        assert set(times_of(frames)) <= {round(one - shown[0], 3) for one in shown}
        for one in frames:
            assert abs(one.pixels.mean() - picture(one.time + shown[0]).mean()) < 4
        everything, _ = read(data, ALL_FRAMES)
        assert times_of(everything) == [round(one - shown[0], 3) for one in shown]


def test_an_avi_that_ends_early_is_told_by_the_number_of_frames_it_announces() -> None:
    data = movie(6, 10, "avi", "mpeg4", cuts=range(6))
    _, clip = read(data)
    assert clip.end is ClipEnd.WHOLE
    _, clip = read(data[: len(data) * 6 // 10])
    assert clip.end is ClipEnd.CUT_SHORT


def test_less_than_a_second_that_is_missing_is_noticed_in_a_torn_frame() -> None:
    data = movie(1, 10, codec="mjpeg", pix_fmt="yuvj420p", container_options=FASTSTART)
    _, clip = read(data[:-1500])
    assert clip.end is ClipEnd.CUT_SHORT


@pytest.mark.parametrize(("seconds", "count"), [(0.3, 3), (1, 5), (2, 5), (4, 5), (5, 5), (7, 7)])
def test_in_a_short_clip_frames_lie_closer_unless_it_was_said_how_close(
    seconds: float, count: int
) -> None:
    data = movie(seconds, 10, options={"g": "250"})
    frames, _ = read(data, FrameSampling(closer=True, cuts=False))
    assert len(frames) == count
    assert frames[-1].time >= seconds * 0.6
    asked, _ = read(data, FrameSampling(cuts=False))
    assert len(asked) == math.ceil(seconds)


def test_variable_frame_rates_keep_their_times() -> None:
    times = [0.0, 0.04, 0.08, 3.0, 3.04, 9.0]
    frames, clip = read(movie(times=times), FrameSampling(cuts=False))
    assert {0, 3.04, 9} <= set(times_of(frames)) <= set(times)
    assert clip.duration >= 9


def test_times_count_from_the_first_frame_wherever_the_file_begins() -> None:
    late = [100_000 + one / 10 for one in range(40)]
    for container in ("mp4", "matroska", "mpegts"):
        frames, _ = read(movie(times=late, container=container))
        assert times_of(frames) == [0, 1, 2, 3], container


def test_a_video_that_players_turn_is_judged_as_it_is_stored_and_shown_upright() -> None:
    def turn(stream: Any) -> None:
        stream.set_display_rotation(90)

    data = movie(3, prepare=turn)
    frames, clip = read(data)
    assert clip.notes == (ClipNote.ROTATED,)
    assert frames[0].pixels.shape == (96, 160, 3)
    (upright,) = CLIPS.pictures(data, [1.0], 80)
    assert upright.shape == (80, 48, 3)


@pytest.mark.parametrize(
    ("how", "brightest"),
    [
        ({"degrees": 0, "hflip": True}, (0, 1)),
        ({"degrees": 0, "vflip": True}, (1, 0)),
        ({"degrees": 90}, (1, 0)),
        ({"degrees": 180}, (1, 1)),
        ({"degrees": 270}, (0, 1)),
        ({"degrees": 90, "hflip": True}, (1, 1)),
    ],
)
def test_pictures_are_turned_and_mirrored_as_players_do(
    how: dict[str, Any], brightest: tuple[int, int]
) -> None:
    def corner(_: float) -> Any:
        pixels = np.full((96, 160, 3), 40, np.uint8)
        pixels[:48, :80] = 220
        return pixels

    data = movie(1, picture=corner, prepare=lambda stream: stream.set_display_rotation(**how))
    _, clip = read(data)
    assert clip.notes == (ClipNote.ROTATED,)
    (shown,) = CLIPS.pictures(data, [0.5], 80)
    rows, columns = shown.shape[0] // 2, shown.shape[1] // 2
    quarters = {
        (down, across): shown[down * rows :, across * columns :][:rows, :columns].mean()
        for down in (0, 1)
        for across in (0, 1)
    }
    assert max(quarters, key=lambda one: quarters[one]) == brightest


def test_a_high_dynamic_range_is_converted_and_noted() -> None:
    def tag(stream: Any) -> None:
        context = stream.codec_context
        context.color_trc, context.color_primaries, context.colorspace = 16, 9, 9

    def tag_frame(frame: Any) -> None:
        frame.color_trc, frame.color_primaries, frame.colorspace = 16, 9, 9

    def grey(_: float) -> Any:  # 58 % of the signal: 203 nits, the white of paper
        return np.full((96, 160, 3), 148, np.uint8)

    data = movie(
        3,
        codec="libx265",
        pix_fmt="yuv420p10le",
        prepare=tag,
        change=tag_frame,
        picture=grey,
        options={"x265-params": "transfer=smpte2084:colorprim=bt2020:colormatrix=bt2020nc"},
    )
    frames, clip = read(data)
    assert clip.notes == (ClipNote.HDR,)
    assert frames[0].pixels.dtype == np.uint8
    assert frames[0].pixels.mean() > 240


def test_ten_bits_of_the_standard_range_are_only_rounded() -> None:
    frames, clip = read(movie(3, codec="libx265", pix_fmt="yuv420p10le"))
    assert clip.notes == ()
    assert abs(frames[0].pixels.mean() - scene(0).mean()) < 4


def test_sixteen_thousand_pixels_are_read_or_refused_by_the_limits() -> None:
    wide = movie(1, 2, "mov", "mjpeg", pix_fmt="yuvj420p", size=(16000, 64))
    frames, _ = read(wide)
    assert frames[0].pixels.shape == (64, 16000, 3)
    for limits in (Limits(side=10_000), Limits(pixels=1_000_000)):
        with pytest.raises(VideoTooLarge, match="16,000 x 64"):
            read(wide, clips=IsolatedClips(frames=limits))


def test_frames_that_are_larger_than_the_header_says_are_not_decoded() -> None:
    wide = movie(1, 2, "mov", "mjpeg", pix_fmt="yuvj420p", size=(16000, 64))
    lying = wide.replace(struct.pack(">HH", 16000, 64), struct.pack(">HH", 160, 96))
    assert lying != wide
    with pytest.raises(VideoTooLarge):
        read(lying, clips=IsolatedClips(frames=Limits(pixels=500_000)))


def test_a_jump_in_time_ends_the_clip_there() -> None:
    jumping = movie(container="matroska", times=[0, 0.5, 1, 1.5, 2, 1e6, 1e6 + 1])
    frames, clip = read(jumping, FrameSampling(cuts=False))
    assert times_of(frames) == [0, 1, 2]
    assert clip.end is ClipEnd.TOO_LONG


def test_too_large_a_file_is_refused_unread() -> None:
    with pytest.raises(VideoTooLarge, match="D3_MAX_VIDEO_BYTES"):
        read(movie(1), clips=IsolatedClips(ClipLimits(bytes=500)))
    gif = animation("GIF")
    with pytest.raises(ImageTooLarge, match="D3_MAX_IMAGE_BYTES"):
        read(gif, clips=IsolatedClips(frames=Limits(bytes=100)))


@pytest.mark.parametrize(
    "text",
    [
        b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n",
        b"ffconcat version 1.0\nfile /etc/hostname\n",
        b"v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
        b'<?xml version="1.0"?><MPD><BaseURL>http://127.0.0.1:9/</BaseURL></MPD>',
    ],
    ids=["hls", "concat", "sdp", "dash"],
)
def test_lists_of_other_files_are_no_videos_not_even_for_the_decoder(text: bytes) -> None:
    with pytest.raises(VideoInvalid):
        read(text)
    question = CLIPS._question("MP4", FrameSampling())  # past the first look
    with memory_file() as stream:
        stream.write(text)
        stream.flush()
        clip = ClipOfChild(stream.fileno(), question)
        with pytest.raises(VideoInvalid, match="no video"):
            clip.read_facts("")
        clip.close()


def test_the_child_can_open_nothing_once_it_reads() -> None:
    code = (
        "import socket\n"
        "from d3.adapters.confinement import forbid_opening\n"
        "forbid_opening()\n"
        "for attempt in (lambda: open('/etc/hostname'), socket.socket):\n"
        "    try:\n        attempt()\n"
        "    except OSError as error:\n        print(error.errno)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["24", "24"]


def test_a_clip_that_takes_too_long_is_judged_as_far_as_it_got() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 255, (720, 1280, 3), np.uint8) for _ in range(2)]

    def picture(at: float) -> Any:
        return noise[round(at * 10) % 2]

    options = {"preset": "ultrafast", "crf": "1", "bf": "0", "g": "1000"}
    slow = movie(8, 10, size=(1280, 720), picture=picture, options=options)
    frames, clip = read(slow, FrameSampling(every=0.1), IsolatedClips(ClipLimits(cpu_seconds=0)))
    assert clip.end is ClipEnd.TOO_SLOW
    assert 0 < len(frames) < 80


def test_a_child_that_is_killed_is_no_fault_of_the_clip() -> None:
    clip = CLIPS.open(movie(6), FrameSampling())
    frames = iter(clip)
    next(frames)
    clip._process.send_signal(signal.SIGKILL)
    with pytest.raises(DecodingInterrupted):
        list(frames)


def test_a_child_that_does_nothing_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "START_SECONDS", 5)
    clip = IsolatedClips(ClipLimits(cpu_seconds=0)).open(
        movie(60, 10, size=(640, 360)), FrameSampling(every=0.1, most=600)
    )
    frames = iter(clip)
    next(frames)
    clip._process.send_signal(signal.SIGSTOP)
    begun = time.monotonic()
    assert len(list(frames)) < 599
    assert clip.end is ClipEnd.TOO_SLOW
    assert time.monotonic() - begun < 30


def test_one_that_is_closed_while_it_is_read_ends_and_leaves_no_child() -> None:
    big = movie(60, 10, size=(640, 360))
    clip = CLIPS.open(big, FrameSampling(every=0.1, most=600))
    frames = iter(clip)
    next(frames)
    clip.close()
    assert len(list(frames)) < 599
    assert not clip.alive
    again = CLIPS.open(big, FrameSampling())
    again.close()
    assert list(again) == []


def test_nonsense_from_a_child_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    def lying(_: Any, size: int, __: Any) -> bytearray:
        return bytearray(b"\xff" * size)

    monkeypatch.setattr(ClipOfChild, "read", lying)
    with pytest.raises(VideoInvalid):
        read(movie(1))


def test_without_the_package_it_is_said_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "find_spec", lambda _: None)
    with pytest.raises(VideoUnavailable, match=r"extra 'video'.*, run .* install .*av>="):
        read(movie(1))
    frames, _ = read(animation("GIF"), ALL_FRAMES)
    assert len(frames) == 6


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "AVIF"])
def test_every_frame_of_an_animated_image(form: str) -> None:
    frames, clip = read(animation(form), ALL_FRAMES)
    assert clip.facts.format == form
    assert clip.facts.frames == 6
    assert times_of(frames) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert clip.duration == pytest.approx(1.2)
    brightness = [one.pixels.mean() for one in frames]
    for number, bright in enumerate(brightness):
        assert abs(bright - scene(number).mean()) < 6


def test_an_animation_of_many_frames_is_thinned_and_a_broken_one_judged_by_its_start() -> None:
    frames, clip = read(animation("WEBP"), FrameSampling(every=0, most=3, cuts=False))
    assert times_of(frames) == pytest.approx([0, 0.4, 0.8])
    assert clip.notes == (ClipNote.SPARSE,)
    gif = animation("GIF")
    frames, clip = read(gif[: len(gif) * 2 // 3], ALL_FRAMES)
    assert 1 <= len(frames) < 6
    with pytest.raises(ImageDamaged):
        read(b"GIF89a" + bytes(20), ALL_FRAMES)


def test_pictures_of_given_times_are_small() -> None:
    first, second = CLIPS.pictures(movie(6, cuts=(3,)), [1.0, 4.0], 64)
    assert first.shape == second.shape == (38, 64, 3)
    assert abs(first.mean() - scene(0).mean()) < 6
    assert abs(second.mean() - scene(1).mean()) < 6


def test_what_a_file_is_its_first_bytes_tell() -> None:
    assert sniff_clip(movie(1)) == "MP4"
    assert sniff_clip(animation("AVIF")) is None
    assert sniff(animation("AVIF")) == "AVIF"
    assert CLIPS.kind(animation("PNG")) == "PNG"
    assert CLIPS.kind(b"\xff\xd8\xff\xe0") is None


def animation(form: str) -> bytes:
    """Six scenes of a fifth of a second each."""
    target = BytesIO()
    first, *others = (Image.fromarray(scene(number)) for number in range(6))
    first.save(target, form, save_all=True, append_images=others, duration=200)
    return target.getvalue()


@pytest.fixture(autouse=True)
def no_child_is_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 10
    while _children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _children()


def _children() -> list[str]:
    """Command lines of the children that decode clips."""
    found = []
    for task in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = task.read_text().rpartition(")")[2].split()[1]
            line = (task.parent / "cmdline").read_bytes()
        except OSError:
            continue
        if int(parent) == os.getpid() and b"d3.adapters.video.worker" in line:
            found.append(line.decode())
    return found
