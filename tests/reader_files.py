"""Small files of every format, written as the real programs write them; the same patterns in each."""

import json
import struct
import warnings
import zipfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import h5py
import hdf5plugin
import numpy as np
import zarr

SCAN, DETECTOR = (3, 4), (16, 16)
PATTERNS = np.random.default_rng(1).poisson(20.0, (*SCAN, *DETECTOR)).astype(np.uint16)
PATTERNS[:, :, 0, 3] = 200  # nothing is symmetric
STACK = PATTERNS.reshape(-1, *DETECTOR)


@dataclass
class Written:
    """A file and what should be read from it."""

    path: Path
    patterns: np.ndarray = field(default_factory=lambda: PATTERNS)
    options: dict[str, Any] = field(default_factory=dict)
    known: dict[str, Any] = field(default_factory=dict)


def signal(data, steps=(("nm", 0.05), ("nm", 0.04), ("mrad", 1.5), ("mrad", 1.25)), energy=60.0, navigate=2):
    axes = [
        {
            "_type": "UniformDataAxis",
            "name": name,
            "units": unit,
            "scale": scale,
            "offset": 0.0,
            "size": n,
            "navigate": i < navigate,
            "index_in_array": i,
        }
        for i, (n, name, (unit, scale)) in enumerate(
            zip(data.shape, "yxvu"[-data.ndim :], steps[-data.ndim :], strict=True)
        )
    ]
    metadata = {
        "General": {"title": "small"},
        "Signal": {"signal_type": ""},
        "Acquisition_instrument": {"TEM": {"beam_energy": energy, "convergence_angle": 30.0}},
    }
    return {
        "data": data,
        "axes": axes,
        "metadata": metadata,
        "original_metadata": {},
        "attributes": {"_lazy": False, "ragged": False},
        "learning_results": {},
        "models": {},
        "tmp_parameters": {},
        "package_info": {"package": "test", "package_version": "0"},
    }


STEPS = {"scan_step": (0.5, 0.4), "pixel_size": (1.5, 1.25), "energy": 60e3, "convergence_semiangle": 30.0}


def hspy(folder):
    from rsciio.hspy import file_writer

    file_writer(str(folder / "a.hspy"), signal(PATTERNS), show_progressbar=False)
    return Written(folder / "a.hspy", known=STEPS)


def zspy(folder):
    # RosettaSciIO's writer needs Zarr 2; this is what it writes
    root = zarr.open_group(folder / "a.zspy", mode="w", zarr_format=2)
    root.attrs.update({"file_format": "ZSpy", "file_format_version": "3.3"})
    made = signal(PATTERNS)
    group = root.create_group("Experiments/small")
    group.create_array("data", data=PATTERNS, chunks=(1, 1, *DETECTOR))
    for i, axis in enumerate(made["axes"]):
        group.create_group(f"axis-{i}").attrs.update(axis)
    beam = made["metadata"]["Acquisition_instrument"]["TEM"]
    group.create_group("metadata/Acquisition_instrument/TEM").attrs.update(beam)
    return Written(folder / "a.zspy", known=STEPS)


def zspy_zipped(folder):
    """As RosettaSciIO writes a .zspy with a ZipStore: attributes that were written twice are there twice."""
    plain = zspy(folder).path
    path = folder / "zipped.zspy"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the name that is there twice
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(".zattrs", "{}")
            for file in sorted(plain.rglob("*")):
                if file.is_file():
                    archive.write(file, file.relative_to(plain))
    return Written(path, known=STEPS)


def mib_header(number, shape, kind, depth, n_chips=1, layout="   1x1", when=None):
    size = 384 if n_chips == 1 else 768
    when = when or datetime(2021, 5, 7, 16, 51, 10)
    first = f"MQ1,{number:06d},{size:05d},{n_chips:02d},{shape[1]:04d},{shape[0]:04d},{kind},{layout},01,2021-05-07,0.1"
    stamp = when.isoformat(timespec="microseconds")
    line = f"{first},0,0,0,4.0E+1,5.11E+2,3RX,068,511,MQ1A,{stamp}000Z,100000000ns,{depth},"
    return line.encode().ljust(size)


def mib(folder, kind="U16", dtype=">u2", hdr=True, n_frames=12):
    path = folder / f"{kind}.mib"
    frames = [
        mib_header(i + 1, DETECTOR, kind, 12) + frame[::-1].astype(dtype).tobytes()  # the lowest row comes first
        for i, frame in enumerate(STACK[:n_frames])
    ]
    path.write_bytes(b"".join(frames))
    if hdr:
        path.with_suffix(".hdr").write_text(
            "HDR,\t\nCounter Depth (number):\t12\nFrames in Acquisition (Number):\t12\n"
            "Frames per Trigger (Number):\t4\nEnd\t"
        )
    return Written(path, options={} if hdr else {"scan_shape": SCAN})


def timed_frames(frames, columns=4, first=1):
    """Processed frames with a pause after each line."""
    start = datetime(2021, 5, 7, 16, 51, 10)
    return [
        mib_header(i, DETECTOR, "U08", 6, when=start + timedelta(microseconds=1000 * i + 5000 * ((i - 1) // columns)))
        + frame[::-1].astype("u1").tobytes()
        for i, frame in enumerate(frames, first)
    ]


def mib_flyback(folder):
    path = folder / "timed.mib"
    path.write_bytes(b"".join(timed_frames(STACK)))
    return Written(path)


def mib_numbered(folder):
    """One recording in three files, which share their notes."""
    for i in range(3):
        frames = timed_frames(STACK[4 * i : 4 * i + 4], first=4 * i + 1)
        (folder / f"scan{i + 1:04d}.mib").write_bytes(b"".join(frames))
    (folder / "scan.hdr").write_text(
        "HDR,\t\nFrames in Acquisition (Number):\t12\nFrames per Trigger (Number):\t4\nEnd\t"
    )
    return Written(folder / "scan0001.mib")


def bit_by_bit(chip, depth):
    """Rows of a chip of 256 x 256 pixels as the readout sends them, one value at a time."""
    out = bytearray()
    for row in chip.tolist():
        if depth == 1:
            for word in range(4):
                number = sum(row[64 * word + bit] << bit for bit in range(64))
                out += number.to_bytes(8, "big")
        elif depth == 6:
            for word in range(32):
                out += bytes(reversed(row[8 * word : 8 * word + 8]))
        else:
            for word in range(64):
                out += struct.pack(">4H", *reversed(row[4 * word : 4 * word + 4]))
    return bytes(out)


def mib_raw(folder, depth=12, quad=False, rows=256):
    """RAW mode; a quad's chips lie side by side in each row, the last first, the lower two on their heads."""
    height, width = (2 * rows, 512) if quad else (rows, 256)
    patterns = np.random.default_rng(depth).integers(0, 2**depth, (1, 2, height, width))
    path = folder / f"raw{depth}{quad}{rows}.mib"
    blocks = []
    for i, frame in enumerate(patterns[0]):
        sent = frame[::-1]
        if quad:
            top, bottom = sent[:rows], sent[rows:]
            chips = [top[:, :256], top[:, 256:], bottom[:, :256][::-1, ::-1], bottom[:, 256:][::-1, ::-1]]
            lines = np.stack([chips[k] for k in (3, 2, 1, 0)], axis=1)  # row, chip, column
            sent = lines.reshape(-1, 256)
        double = 2 if depth == 24 else 1
        shape = (rows, 256 * double * (4 if quad else 1))
        head = mib_header(i + 1, shape, "R64", depth, 4 if quad else 1, "   2x2" if quad else "   1x1")
        halves = [(sent >> 12, 12), (sent & 0xFFF, 12)] if depth == 24 else [(sent, depth)]
        body = b"".join(bit_by_bit(*half) for half in halves)
        blocks.append(head + body)
    path.write_bytes(b"".join(blocks))
    return Written(path, patterns, {"scan_shape": (1, 2)})


def empad(folder):
    frames = np.zeros((12, 130, 128), "<f4")
    frames[:, 128:] = -1e9
    frames[:, :16, :16] = STACK
    (folder / "scan_x4_y3.raw").write_bytes(frames.tobytes())
    path = folder / "a.xml"
    path.write_text(
        '<?xml version="1.0"?><root><raw_file filename="scan_x4_y3.raw"/><pix_x>4</pix_x><pix_y>3</pix_y>'
        "<iom_measurements><optics><get_full_scan_field_of_view>(1.5e-10, 1.6e-10)</get_full_scan_field_of_view>"
        "</optics><calibrated_pixelsize>0.2</calibrated_pixelsize></iom_measurements></root>"
    )
    patterns = frames[:, :128].reshape(3, 4, 128, 128)
    return Written(path, patterns, known={"scan_step": (0.5, 0.4)})


def empad_g2(folder):
    """As the programs of the second generation describe it; nothing follows a frame."""
    frames = np.zeros((12, 128, 128), "<f4")
    frames[:, :16, :16] = STACK - 0.5
    (folder / "scan_x4_y3.raw").write_bytes(frames.tobytes())
    path = folder / "g2.xml"
    path.write_text(
        '<?xml version="1.0"?><root><scan><type>scan</type><shape>(3, 4)</shape></scan><sensor><type>EMPAD2</type>'
        "<shape>(128,128)</shape></sensor><iom_measurements><ColumnSourceHighVoltage>60000.0</ColumnSourceHighVoltage>"
        "<calibrated_diffraction_angle>0.0015</calibrated_diffraction_angle></iom_measurements>"
        "<rawfile><datatype>float32</datatype><filename>scan_x4_y3.raw</filename></rawfile></root>"
    )
    return Written(path, frames.reshape(3, 4, 128, 128), known={"energy": 60e3, "pixel_size": (1.5, 1.5)})


def blo(folder, n_frames=12):
    """As NanoMegas writes it: an image for navigation, then each frame after two magic bytes and its number."""
    header = struct.pack("<6sHIIIHHHHHddI", b"IMGBLO", 0x102, 0x1000, 0x1100, 131141, 16, 0, 4, 3, 0, 0.04, 0.05, 60000)
    frames = [b"\xaa\x55" + struct.pack("<I", i) + STACK[i].astype("u1").tobytes() for i in range(n_frames)]
    path = folder / "a.blo"
    path.write_bytes(header.ljust(0x1100, b"\0") + b"".join(frames))
    return Written(path, known={"scan_step": (0.5, 0.4), "energy": 60e3})


def mrc(folder, mode=6):
    header = bytearray(1024)
    header[:16] = struct.pack("<4I", *DETECTOR[::-1], 12, mode)
    header[208:216] = b"MAP DD\0\0"
    path = folder / "a.mrc"
    path.write_bytes(bytes(header) + STACK.astype({6: "<u2", 1: "<i2", 2: "<f4", 4: "<c8"}[mode]).tobytes())
    return Written(path, options={"scan_shape": SCAN})


def mrc_big_endian(folder):
    """Without a mark: the mode alone tells."""
    header = struct.pack(">4I", *DETECTOR[::-1], 12, 1).ljust(1024, b"\0")
    (folder / "big.mrc").write_bytes(header + STACK.astype(">i2").tobytes())
    return Written(folder / "big.mrc", options={"scan_shape": SCAN})


def direct_electron(folder):
    """The scan and the microscope are in notes beside the frames."""
    written = mrc(folder)
    path = written.path.rename(folder / "20240102_00007_movie.mrc")
    notes = {
        "Scan - Enable": "Enable",
        "Scan - Type": "Raster",
        "Scan - Size X": 4,
        "Scan - Size Y": 3,
        "Instrument Accelerating Voltage (V)": 60000,
        "Specimen Pixel Size X (nanometers)": 0.04,
        "Specimen Pixel Size Y (nanometers)": 0.05,
        "Diffraction Pixel Size X": 0.25,
        "Diffraction Pixel Size Y": 0.3,
    }
    lines = "".join(f"{name:<60} = {value}\n" for name, value in notes.items())
    (folder / "20240102_00007_info.txt").write_text(lines)
    pixel = (0.03 * 48.661, 0.025 * 48.661)
    return Written(path, known={"scan_step": (0.5, 0.4), "energy": 60e3, "pixel_size": pixel})


def tvips(folder):
    from rsciio.tvips import file_writer

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = signal(PATTERNS, steps=(("nm", 0.05), ("nm", 0.04), ("1/nm", 2.0), ("1/nm", 2.0)), energy=200)
        made["axes"][0]["scale"] = 2.0  # RosettaSciIO writes the first axis' scale as the pixel size
        file_writer(str(folder / "a_000.tvips"), made, max_file_size=4000, mode=2, show_progressbar=False)
    return Written(folder / "a_000.tvips", options={"scan_shape": SCAN}, known={"energy": 200e3})


DM_STEPS = (("nm", 0.05), ("nm", 0.04), ("1/nm", 0.3), ("1/nm", 0.25))


def dm_tag(name, kind, *numbers):
    """A tag of one number, a string or an array, in .dm4."""
    codes = {"u4": (5, "<I"), "f4": (6, "<f"), "f8": (7, "<d"), "u8": (12, "<Q"), "b": (8, "<B")}
    if kind == "text":
        body = numbers[0].encode("utf-16-le")
        info = struct.pack(">4q", 3, 20, 4, len(numbers[0]))
    elif kind == "array":
        body, code, n = numbers
        info = struct.pack(">4q", 3, 20, code, n)
    else:
        code, form = codes[kind]
        info, body = struct.pack(">2q", 1, code), struct.pack(form, *numbers)
    inner = b"%%%%" + info + body
    return b"\x15" + struct.pack(">H", len(name)) + name.encode() + struct.pack(">q", len(inner)) + inner


def dm_group(name, *tags):
    body = b"".join(tags)
    head = b"\x14" + struct.pack(">H", len(name)) + name.encode()
    return head + struct.pack(">q", len(body) + 10) + b"\1\0" + struct.pack(">q", len(tags)) + body


def dm_image(stored, steps, *tags, name="scan"):
    """The tags that every image of a .dm4 has: dimensions, calibrations, microscope, and the data."""
    units = [
        dm_group("", dm_tag("Origin", "f4", 0.0), dm_tag("Scale", "f4", scale), dm_tag("Units", "text", unit))
        for unit, scale in reversed(steps)
    ]
    data = dm_tag("Data", "array", stored.astype("<u2").tobytes(), 4, stored.size)
    image = dm_group(
        "ImageData",
        dm_group(
            "Calibrations",
            dm_group(
                "Brightness", dm_tag("Origin", "f4", 0.0), dm_tag("Scale", "f4", 1.0), dm_tag("Units", "text", "")
            ),
            dm_group("Dimension", *units),
        ),
        data,
        dm_tag("DataType", "u4", 10),
        dm_group("Dimensions", *(dm_tag("", "u4", n) for n in reversed(stored.shape))),
        dm_tag("PixelDepth", "u4", 2),
    )
    noted = dm_group("ImageTags", dm_group("Microscope Info", dm_tag("Voltage", "f8", 60e3)), *tags)
    return dm_group("", image, noted, dm_tag("Name", "text", name))


def write_dm4(path, *images):
    root = b"\1\0" + struct.pack(">q", 1) + dm_group("ImageList", *images)
    path.write_bytes(struct.pack(">IQI", 4, len(root) + 16, 1) + root + b"\0" * 8)
    return path


def dm4(folder, scan_inside=False):
    stored = PATTERNS.transpose(2, 3, 0, 1) if scan_inside else PATTERNS
    steps = DM_STEPS[2:] + DM_STEPS[:2] if scan_inside else DM_STEPS
    path = write_dm4(folder / ("swapped.dm4" if scan_inside else "a.dm4"), dm_image(stored, steps))
    known = {"scan_step": (0.5, 0.4), "energy": 60e3, "pixel_size": (0.03 * 48.661, 0.025 * 48.661)}
    return Written(path, known=known)


def py4dstem(folder):
    """As emdfile 0.0.16 writes a DataCube of py4DSTEM 0.14."""
    path = folder / "a.h5"
    with h5py.File(path, "w") as file:
        file.attrs.update({"emd_group_type": "file", "version_major": 1, "version_minor": 0})
        root = file.create_group("datacube_root")
        root.attrs.update({"emd_group_type": "root", "python_class": "Root"})
        cube = root.create_group("datacube")
        cube.attrs.update({"emd_group_type": "array", "python_class": "DataCube"})
        cube.create_dataset("data", data=PATTERNS).attrs["units"] = "pixel intensity"
        for i, (name, unit) in enumerate((("Rx", "pixels"), ("Ry", "pixels"), ("Qx", "pixels"), ("Qy", "pixels"))):
            cube[f"dim{i}"] = np.array([0.0, 1.0])
            cube[f"dim{i}"].attrs.update({"name": name, "units": unit})
        notes = root.create_group("metadatabundle/calibration")
        root["metadatabundle"].attrs["emd_group_type"] = "metadatabundle"
        for space, size, unit in (("R", 0.5, "A"), ("Q", 0.03, "A^-1")):
            notes[f"{space}_pixel_size"], notes[f"{space}_pixel_units"] = size, unit
    return Written(path, known={"scan_step": (0.5, 0.5)})


def py4dstem_old(folder):
    """As py4DSTEM 0.12 wrote it."""
    path = folder / "old.h5"
    with h5py.File(path, "w") as file:
        top = file.create_group("4DSTEM_experiment")
        top.attrs.update({"emd_group_type": 2, "version_major": 0, "version_minor": 12})
        cube = top.create_group("data/datacubes/datacube_0")
        cube.attrs["emd_group_type"] = 1
        cube["data"] = PATTERNS
        for i, n in enumerate(PATTERNS.shape):
            cube[f"dim{i + 1}"] = np.arange(n) * (0.5, 0.4, 1.5, 1.25)[i]
            cube[f"dim{i + 1}"].attrs.update({"name": "R_x", "units": "[Å]" if i < 2 else "[mrad]"})
    return Written(path, known={"scan_step": (0.5, 0.4), "pixel_size": (1.5, 1.25)})


def prismatic(folder):
    """As Prismatic 2 writes 4D output: x first, one group for each depth."""
    path = folder / "prismatic.h5"
    with h5py.File(path, "w") as file:
        top = file.create_group("4DSTEM_simulation")
        top.attrs.update({"emd_group_type": 2, "version_major": 0, "version_minor": 5})
        cube = top.create_group("data/datacubes/CBED_array_depth0000")
        cube.attrs.update({"emd_group_type": 1, "metadata": 0, "output_depth": 5.43})
        cube.create_dataset("datacube", data=PATTERNS.transpose(1, 0, 3, 2).astype("f4"), chunks=(1, 1, *DETECTOR))
        names = (("R_x", "[Å]", 0.4), ("R_y", "[Å]", 0.5), ("Q_x", "[Å^-1]", 0.025), ("Q_y", "[Å^-1]", 0.03))
        for i, (name, unit, step) in enumerate(names):
            cube[f"dim{i + 1}"] = (np.arange(cube["datacube"].shape[i]) * step).astype("f4")
            cube[f"dim{i + 1}"].attrs.update({"name": name, "units": unit})
        notes = top.create_group("metadata/metadata_0/original/simulation_parameters")
        notes.attrs.update({"E": np.float32(60.0), "sa": np.float32(30.0)})
    pixel = (0.03 * 48.661, 0.025 * 48.661)
    return Written(path, known={**STEPS, "pixel_size": pixel})


def ncem(folder):
    from rsciio.emd import file_writer

    steps = (("nm", 0.05), ("nm", 0.04), ("mrad", 1.5), ("mrad", 1.25))
    file_writer(str(folder / "ncem.emd"), signal(PATTERNS, steps))
    return Written(folder / "ncem.emd", known={"scan_step": (0.5, 0.4), "pixel_size": (1.5, 1.25)})


def abtem_zarr(folder):
    """As abTEM 1.0.11's to_zarr writes it: x first."""
    root = zarr.open_group(folder / "abtem.zarr", mode="w")
    scan = [{"type": "ScanAxis", "units": "Å", "sampling": s} for s in (0.4, 0.5)]
    detector = [{"type": "ReciprocalSpaceAxis", "units": "1/Å", "sampling": s} for s in (0.025, 0.03)]
    root.attrs["metadata0"] = {
        "energy": 60e3,
        "semiangle_cutoff": 30.0,
        "axes": {f"axis_{i}": axis for i, axis in enumerate([*scan, *detector])},
        "data_origin": "abTEM_v1.0.11",
        "type": "DiffractionPatterns",
        "kwargs": {"sampling": {"_type": "tuple", "_value": [0.025, 0.03]}, "fftshift": True},
    }
    root.create_array("array0", data=PATTERNS.transpose(1, 0, 3, 2).astype("f4"), chunks=(2, 2, *DETECTOR))
    return Written(folder / "abtem.zarr", known={**STEPS, "pixel_size": (0.03 * 48.661, 0.025 * 48.661)})


def abtem_hdf5(folder):
    """As abTEM's first version wrote a measurement."""
    path = folder / "abtem.hdf5"
    with h5py.File(path, "w") as file:
        file["array"] = PATTERNS.transpose(1, 0, 3, 2).astype("f4")
        file["sampling"], file["offset"] = np.array([0.4, 0.5, 1.25, 1.5]), np.zeros(4)
        file["units"] = np.array(["Å".encode()] * 2 + [b"mrad"] * 2)
    return Written(path, known={"scan_step": (0.5, 0.4), "pixel_size": (1.5, 1.25)})


def dectris(folder):
    """A master with links to two data files, compressed as the detector does, and Arina's notes beside it."""
    path = folder / "scan_master.h5"
    for i, part in enumerate((STACK[:7], STACK[7:])):
        with h5py.File(folder / f"scan_data_{i + 1:06d}.h5", "w") as file:
            group = file.create_group("entry/data")
            group.create_dataset("data", data=part, chunks=(1, *DETECTOR), compression=hdf5plugin.Bitshuffle())
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        for i in (1, 2):
            data[f"data_{i:06d}"] = h5py.ExternalLink(f"scan_data_{i:06d}.h5", "/entry/data/data")
        detector = file.create_group("entry/instrument/detector/detectorSpecific")
        detector["ntrigger"], detector["nimages"] = 3, 4
        file["entry/instrument/beam/incident_energy"] = 60e3
    with h5py.File(folder / "scan.h5", "w") as file:
        file.create_group("STEM Metadata").attrs["Pixel Size"] = [0.05]
    return Written(path, known={"scan_step": (0.5, 0.5), "energy": 60e3})


def velox(folder, movie=False, spectra=False):
    """A camera's stack: frames along the last axis, notes as JSON in bytes; beside it a movie, or spectra."""
    path = folder / "velox.emd"
    notes = {
        "Core": {"MetadataDefinitionVersion": "7.9"},
        "Instrument": {"InstrumentClass": "Titan"},
        "Acquisition": {"AcquisitionStartDatetime": {"DateTime": "1500000000"}},
        "Optics": {"AccelerationVoltage": "60000", "BeamConvergence": "0.03"},
        "Scan": {"ScanSize": {"width": "4", "height": "3"}, "FrameTime": "1.0"},
        "BinaryResult": {
            "PixelSize": {"width": "1.25e-3", "height": "1.5e-3"},
            "Offset": {"x": "0", "y": "0"},
            "PixelUnitX": "rad",
            "PixelUnitY": "rad",
            "DetectorIndex": "0",
            "Detector": "BM-Ceta",
        },
        "Detectors": {"Detector-0": {"DetectorName": "BM-Ceta"}},
        "CustomProperties": {},
    }
    with h5py.File(path, "w") as file:
        file["Version"] = np.array([json.dumps({"format": "Velox", "version": "1.0"}).encode()], object)
        image = file.create_group("Data/Image/0a1b")
        image.create_dataset("Data", data=np.moveaxis(STACK, 0, -1), chunks=(*DETECTOR, 1))
        text = np.frombuffer(json.dumps(notes).encode().ljust(2000, b"\0"), "u1")
        image["Metadata"] = text[:, None]
        if movie:
            notes["BinaryResult"] |= {"Detector": "HAADF", "PixelUnitX": "m", "PixelUnitY": "m"}
            notes["BinaryResult"]["PixelSize"] = {"width": "5e-10", "height": "5e-10"}
            image = file.create_group("Data/Image/ff99")
            image.create_dataset("Data", data=np.zeros((64, 64, 40), "u2"), chunks=(64, 64, 1))
            image["Metadata"] = np.frombuffer(json.dumps(notes).encode().ljust(2000, b"\0"), "u1")[:, None]
        if spectra:
            file["Data/SpectrumImage/0c/Data"] = np.zeros((3, 4, 8), "u2")
            file["Data/SpectrumStream/0d/Data"] = np.zeros((40, 1), "u2")
    return Written(path, known={**STEPS, "scan_step": None})


def ser(folder, n_frames=12, columns_first=False, kind=0x4122):
    """As TIA writes a series over a scan: offsets of frames and tags at the end, the lowest row first."""
    path = folder / "scan_1.ser"
    order = STACK if not columns_first else PATTERNS.transpose(1, 0, 2, 3).reshape(STACK.shape)
    axes = b"".join(
        struct.pack("<IddII", n, 0.0, step, 0, 8) + b"Position" + struct.pack("<I", 6) + b"meters"
        for n, step in ((SCAN[1], 4e-11), (SCAN[0], 5e-11))
    )
    where = 34 + len(axes)
    body, places, tags = b"", [], []
    for i, frame in enumerate(order[:n_frames]):
        places.append(where + 2 * 12 * 8 + len(body))
        head = struct.pack("<ddIddIHII", 0.0, 2.5e8, 0, 0.0, 3e8, 0, 2, DETECTOR[1], DETECTOR[0])
        body += head + frame[::-1].astype("<u2").tobytes()
        tags.append(where + 2 * 12 * 8 + len(body))
        x, y = divmod(i, SCAN[0]) if columns_first else (i % SCAN[1], i // SCAN[1])
        body += struct.pack("<HHIdd", 0x4142, 0, 0, x * 4e-11, y * 5e-11)
    absent = [0] * (12 - n_frames)
    index = struct.pack("<24Q", *places, *absent, *tags, *absent)
    start = struct.pack("<HHHIIII", 0x4949, 0x0197, 0x220, kind, 0x4142, 12, n_frames) + struct.pack("<QI", where, 2)
    path.write_bytes(start + axes + index + body)
    note = "<Data><Label>High tension</Label><Value>60</Value><Unit>kV</Unit></Data>"
    (folder / "scan.emi").write_bytes(
        b"JL\0\0 <ObjectInfo><ExperimentalDescription><Root>"
        + note.encode()
        + b"</Root></ExperimentalDescription></ObjectInfo> \0"
    )
    pixel = (0.03 * 48.661, 0.025 * 48.661)
    return Written(path, known={"scan_step": (0.5, 0.4), "energy": 60e3, "pixel_size": pixel})


def counted(folder, version=3, lost=()):
    """As stempy writes counted electrons: version 1 one list each, 2 lists with positions, 3 as many for each."""
    path = folder / f"counted{version}.h5"
    flat = STACK.reshape(len(STACK), -1)
    if version == 1:
        lists, places = [np.repeat(np.arange(256), frame) for frame in flat], np.arange(12)
    else:  # no pixel is twice in one list
        n_each = int(flat.max())
        lists = [np.flatnonzero(frame > n) for frame in flat for n in range(n_each)]
        places = np.repeat(np.arange(12), n_each)
    if version == 2:
        order = [i for i in np.random.default_rng(0).permutation(len(lists)) if places[i] not in lost]
        lists, places = [lists[i] for i in order], places[order]
    events = np.empty(len(lists), object)
    events[:] = [hits.astype(np.uint32) for hits in lists]
    with h5py.File(path, "w") as file:
        if version > 1:
            file.attrs["version"] = version
        file.create_dataset("electron_events/frames", (len(events),), h5py.vlen_dtype(np.uint32))[...] = events
        file["electron_events/frames"].attrs.update({"Nx": DETECTOR[0], "Ny": DETECTOR[1]})
        file["electron_events/scan_positions"] = np.arange(12) if version == 3 else places
        file["electron_events/scan_positions"].attrs.update({"Nx": SCAN[1], "Ny": SCAN[0]})
    return Written(path)


def nexus(folder):
    path = folder / "a.nxs"
    with h5py.File(path, "w") as file:
        data = file.create_group("entry/data")
        file["entry"].attrs.update({"NX_class": "NXentry", "default": "data"})
        data.attrs.update({"NX_class": "NXdata", "signal": "frames", "axes": ["y", "x", "ky", "kx"]})
        data["frames"] = PATTERNS
        for name, n, step, unit in zip(("y", "x", "ky", "kx"), PATTERNS.shape, (5, 4, 1.5, 1.25), "ppmm", strict=True):
            data[name] = np.arange(n) * float(step)
            data[name].attrs["units"] = {"p": "pm", "m": "mrad"}[unit]
    return Written(path, known={"scan_step": (0.05, 0.04), "pixel_size": (1.5, 1.25)})


def hdf5(folder):
    with h5py.File(folder / "plain.h5", "w") as file:
        file.create_dataset("some/where/frames", data=PATTERNS, chunks=(1, 2, 8, 16), compression="gzip")
        file["some/other"] = PATTERNS + 1
    return Written(folder / "plain.h5", options={"dataset": "some/where/frames"})


def hdf5_stack(folder):
    with h5py.File(folder / "stack.h5", "w") as file:
        file["frames"] = STACK
    return Written(folder / "stack.h5", options={"scan_shape": SCAN})


def tiff_stack(folder, compression=None, byteorder=">"):
    from tifffile import imwrite

    path = folder / "stack.tif"
    imwrite(path, STACK, compression=compression, byteorder=byteorder, photometric="minisblack", metadata=None)
    return Written(path, options={"scan_shape": SCAN})


def npy(folder, array=PATTERNS):
    np.save(folder / "a.npy", array)
    return Written(folder / "a.npy")


def npy_fortran(folder):
    np.save(folder / "f.npy", np.asfortranarray(PATTERNS))
    return Written(folder / "f.npy")


def npy_stack(folder):
    np.save(folder / "stack.npy", STACK.astype(">i4"))
    return Written(folder / "stack.npy", options={"scan_shape": SCAN})


def npz(folder):
    np.savez(folder / "a.npz", frames=PATTERNS, mean=PATTERNS.mean((0, 1)))
    return Written(folder / "a.npz")


def npz_compressed(folder):
    np.savez_compressed(folder / "c.npz", frames=STACK, other=STACK)
    return Written(folder / "c.npz", options={"scan_shape": SCAN, "dataset": "frames"})


def raw(folder):
    (folder / "a.bin").write_bytes(PATTERNS.astype(">u2").tobytes())
    return Written(folder / "a.bin", options={"shape": PATTERNS.shape, "dtype": ">u2"})


def zarr2(folder):
    group = zarr.open_group(folder / "two.zarr", mode="w", zarr_format=2)
    group.create_array("data/frames", data=PATTERNS, chunks=(1, 4, *DETECTOR))
    return Written(folder / "two.zarr")


def zarr3(folder):
    zarr.create_array(folder / "three.zarr", data=STACK, chunks=(5, *DETECTOR))
    return Written(folder / "three.zarr", options={"scan_shape": SCAN})


WRITERS = (
    hspy, zspy, mib, mib_flyback, mib_numbered, empad, empad_g2, blo, mrc, mrc_big_endian, direct_electron, tvips,
    dm4, py4dstem, py4dstem_old, prismatic, ncem, abtem_zarr, abtem_hdf5, dectris, velox, ser, nexus, hdf5,
    hdf5_stack, npy, npy_fortran, npy_stack, npz, npz_compressed, raw, zarr2, zarr3, zspy_zipped,
    counted, tiff_stack,
)  # fmt: skip
