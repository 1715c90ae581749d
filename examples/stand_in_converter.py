"""What `web_service.py` runs where neither ImageMagick nor ffmpeg is installed. Standard library only.

python stand_in_converter.py thumbnail 200 < picture.ppm > picture.png
python stand_in_converter.py film 10                        # progress as `ffmpeg -progress pipe:1` writes it
"""

import struct
import sys
import time
import zlib

FRAMES = 25  # per second of film


def read_ppm(data: bytes) -> tuple[int, int, bytes]:
    """Width, height and pixels of a binary PPM without comments: the one format that needs no library to be read."""
    try:
        magic, width, height, depth, pixels = data.split(maxsplit=4)
        columns, rows = int(width), int(height)
    except ValueError:
        raise SystemExit("not a picture that this program can read: it takes a binary PPM (P6)") from None
    # One white space ends the header; `split` has taken any more of it that was in the pixels.
    pixels = data[len(data) - columns * rows * 3 :] if len(data) > columns * rows * 3 else b""
    if magic != b"P6" or depth != b"255" or not pixels:
        raise SystemExit("not a picture that this program can read: it takes a whole binary PPM (P6) of depth 255")
    return columns, rows, pixels


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def thumbnail(side: int) -> None:
    columns, rows, pixels = read_ppm(sys.stdin.buffer.read())
    scale = min(1.0, side / max(columns, rows))
    width, height = max(1, int(columns * scale)), max(1, int(rows * scale))
    lines = []
    for y in range(height):
        start = y * rows // height * columns
        nearest = (3 * (start + x * columns // width) for x in range(width))
        lines.append(b"\0" + b"".join(pixels[at : at + 3] for at in nearest))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"".join(lines))) + chunk(b"IEND", b"")
    sys.stdout.buffer.write(b"\x89PNG\r\n\x1a\n" + body)


def film(seconds: float) -> None:
    frames = round(seconds * FRAMES)
    for frame in range(1, frames + 1):
        time.sleep(1 / FRAMES)  # a real one computes
        print(f"out_time_us={frame * 1_000_000 // FRAMES}", flush=True)
        print(f"progress={'end' if frame == frames else 'continue'}", flush=True)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["thumbnail", side]:
            thumbnail(int(side))
        case ["film", seconds]:
            film(float(seconds))
        case _:
            sys.exit(__doc__)
