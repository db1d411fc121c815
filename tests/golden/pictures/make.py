"""Writes small pictures of many kinds and what Pillow shows of each: `python make.py` (Pillow 12, numpy).

expected.json holds for each file {"size": [columns, rows], "rgb": base64 of the rows}, as `ImageOps.exif_transpose` and
then transformers' `convert_to_rgb` (transparency over white) give them. 16-bit grey is the high byte, where Pillow clips.
"""
import base64, io, json, pathlib, struct

import numpy as np
from PIL import Image, ImageOps, features

here = pathlib.Path(__file__).parent
rng = np.random.default_rng(7)
W, H = 12, 8
y, x = np.mgrid[0:H, 0:W]
smooth = np.stack([x * 20, y * 30, (x + y) * 12], -1).astype(np.uint8)
noisy = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
alpha = (x * 21 + y).clip(0, 255).astype(np.uint8)
rgb, grey = Image.fromarray(noisy), Image.fromarray(noisy[..., 0])
soft = Image.fromarray(smooth)
rgba = Image.fromarray(np.dstack([noisy, alpha]))
expected = {}


def shown(image):
    image = ImageOps.exif_transpose(image)
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    image = image.convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255))
    return Image.alpha_composite(white, image).convert("RGB")


def keep(name, data=None, reference=None):
    if data is not None:
        (here / name).write_bytes(data)
    picture = shown(reference if reference is not None else Image.open(here / name))
    pixels = base64.b64encode(np.asarray(picture).tobytes()).decode()
    expected[name] = {"size": list(picture.size), "rgb": pixels}


def save(name, image, **options):
    image.save(here / name, **options)
    keep(name)


def exif(value):
    tags = Image.Exif()
    tags[0x0112] = value
    return tags.tobytes()


# PNG: every mode that Pillow writes, both orders of rows, transparency of every form, orientation.
for mode in ["1", "L", "LA", "P", "RGB", "RGBA"]:
    save(f"{mode}.png", (rgba if mode in ("RGBA", "LA") else rgb).convert(mode))
save("grey16.png", Image.fromarray(rng.integers(0, 65536, (H, W), dtype=np.uint16)))
save("palette-clear.png", rgb.quantize(8), transparency=3)
save("palette-2-bits.png", rgb.quantize(4), bits=2)
save("grey-clear.png", grey, transparency=int(noisy[2, 3, 0]))
save("colour-clear.png", rgb, transparency=tuple(int(v) for v in noisy[2, 3]))
save("turned.png", rgb, exif=exif(6))


def chunks(data):
    place = 8
    while place < len(data):
        size = struct.unpack(">I", data[place:place + 4])[0]
        yield data[place + 4:place + 8], data[place:place + 12 + size]
        place += 12 + size


parts = list(chunks((here / "turned.png").read_bytes()))
late = [c for k, c in parts if k not in (b"eXIf", b"IEND")] + [c for k, c in parts if k == b"eXIf"] + [parts[-1][1]]
keep("turned-late.png", b"\x89PNG\r\n\x1a\n" + b"".join(late))

# JPEG: colour spaces, sampling, passes, orientation, a trailer.
save("grey.jpg", Image.fromarray(smooth[..., 0]), quality=95)
save("444.jpg", soft, quality=95, subsampling=0)
save("420.jpg", soft, quality=95, subsampling=2)
save("progressive.jpg", soft, quality=95, progressive=True, subsampling=0)
save("cmyk.jpg", soft.convert("CMYK"), quality=95, subsampling=0)
for value in range(1, 9):
    save(f"turned-{value}.jpg", soft, quality=95, subsampling=0, exif=exif(value))
data = (here / "444.jpg").read_bytes()
keep("trailer.jpg", data + b"ftypmp42" + b"\xff\xda" + bytes(2000) + b"\xff\xd9\xff\xda")
xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="8"/></x:xmpmeta>'
buffer = io.BytesIO()
soft.save(buffer, "JPEG", quality=95, subsampling=0, xmp=xmp)
keep("turned-xmp.jpg", buffer.getvalue())

# WebP, GIF, BMP.
save("lossless.webp", rgb, lossless=True)
save("lossless-alpha.webp", rgba, lossless=True, exact=True)
save("lossy.webp", soft, quality=95)
save("lossy-alpha.webp", Image.fromarray(np.dstack([smooth, alpha])), quality=95, exact=True)
save("animated.webp", rgb, lossless=True, save_all=True, append_images=[soft, grey.convert("RGB")])
save("turned.webp", rgb, lossless=True, exif=exif(6))
save("turned-marked.webp", rgb, lossless=True, exif=b"Exif\0\0" + exif(8).removeprefix(b"Exif\0\0"))
save("P.gif", rgb.quantize(16))
save("animated.gif", rgb.quantize(16), save_all=True, append_images=[soft.quantize(16)])
save("clear.gif", rgb.quantize(8), transparency=2)
for mode in ["1", "L", "P", "RGB", "RGBA"]:
    save(f"{mode}.bmp", (rgba if mode == "RGBA" else rgb).convert(mode))

# TIFF: modes, compressions, orientation, white-is-zero, tiles and planes by hand.
for mode in ["1", "L", "RGB", "RGBA", "CMYK", "P", "LA", "F", "I;16", "YCbCr", "LAB"]:
    image = Image.fromarray(rng.integers(0, 65536, (H, W), dtype=np.uint16)) if mode == "I;16" else rgb.convert("L").convert("F") if mode == "F" else rgba.convert("LA") if mode == "LA" else (rgba if mode == "RGBA" else rgb).convert(mode) if mode != "LAB" else Image.fromarray(noisy, "LAB")
    try:
        image.save(here / f"{mode.replace(';', '')}.tif")
        keep(f"{mode.replace(';', '')}.tif")
    except Exception as error:
        print(mode, error)
for compression in ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group3", "group4", "zstd", "webp", "tiff_deflate", "lzma"]:
    image = rgb.convert("1") if compression.startswith("group") else soft if compression in ("jpeg", "webp") else rgb
    try:
        image.save(here / f"{compression}.tif", compression=compression)
        keep(f"{compression}.tif")
    except Exception as error:
        print(compression, error)
for value in (2, 3, 6, 8):
    save(f"turned-{value}.tif", rgb, tiffinfo={274: value})
save("two-pages.tif", rgb, save_all=True, append_images=[soft])


def tiff(entries, strips, big=False):
    """A TIFF by hand: (tag, type, values) and the strips' bytes."""
    offset, body = 8, b""
    places = []
    for strip in strips:
        places.append(offset + len(body))
        body += strip
    entries = sorted(entries + [(273, 4, places), (279, 4, [len(s) for s in strips])])
    extra, directory = b"", offset + len(body)
    start = directory + 2 + 12 * len(entries) + 4
    out = struct.pack("<H", len(entries))
    for tag, kind, values in entries:
        packed = b"".join(struct.pack("<H" if kind == 3 else "<I", v) for v in values)
        if len(packed) > 4:
            out += struct.pack("<HHII", tag, kind, len(values), start + len(extra))
            extra += packed
        else:
            out += struct.pack("<HHI", tag, kind, len(values)) + packed.ljust(4, b"\0")
    return b"II*\0" + struct.pack("<I", directory) + body + out + struct.pack("<I", 0) + extra


base = [(256, 3, [W]), (257, 3, [H]), (259, 3, [1]), (278, 3, [H])]
keep("planes.tif", tiff(base + [(258, 3, [8, 8, 8]), (262, 3, [2]), (277, 3, [3]), (284, 3, [2])],
                        [noisy[..., c].tobytes() for c in range(3)]), rgb)
keep("white-is-zero.tif", tiff(base + [(258, 3, [8]), (262, 3, [0]), (277, 3, [1])], [(255 - noisy[..., 0]).tobytes()]), grey)
bits = noisy[..., 0] > 127
keep("white-is-zero-1.tif", tiff(base + [(258, 3, [1]), (262, 3, [0]), (277, 3, [1])],
                                 [np.packbits(~bits, axis=1).tobytes()]), Image.fromarray((bits * 255).astype(np.uint8)))
four = noisy[..., 0] >> 4
keep("grey-4-bits.tif", tiff(base + [(258, 3, [4]), (262, 3, [1]), (277, 3, [1])],
                             [((four[:, ::2] << 4) | four[:, 1::2]).tobytes()]), Image.fromarray(four * 17))
deep = rng.integers(0, 65536, (H, W, 3), dtype=np.uint16)
keep("rgb-16-bits.tif", tiff(base + [(258, 3, [16] * 3), (262, 3, [2]), (277, 3, [3])], [deep.tobytes()]),
     Image.fromarray((deep >> 8).astype(np.uint8)))

(here / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
print(len(expected), "pictures", features.version("pil"))
