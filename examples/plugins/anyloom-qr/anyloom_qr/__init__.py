"""QR codes: make one from a text (segno), read one from a picture (OpenCV)."""

import io

from anyloom.core.errors import ExpertError, InputError
from anyloom.tools.contracts import Card, Expert, Output, Param, Tool


class MakeQR(Expert):
    """Writes a text or link as a QR code."""

    name = "segno-qr"
    tool = Tool("qr-code-generation", "makes a QR code picture from a text or link", (Param("text", "text"),), "image")
    card = Card(licence="BSD-3-Clause", speed="instant")

    def run(self, args, run):
        """A PNG of at least 200 pixels a side; InputError for a text that is too long for a code."""
        import segno

        run.check()
        try:
            code = segno.make(args["text"], micro=False)
        except (ValueError, segno.DataOverflowError) as e:
            raise InputError(f"This text does not fit into a QR code ({e}); give at most some 2,000 characters.") from e
        out = io.BytesIO()
        code.save(out, kind="png", scale=max(4, 200 // code.symbol_size()[0]), border=4)
        return [Output(out.getvalue(), "image/png", "qr")]


class ReadQR(Expert):
    """Reads the QR code in a picture."""

    name = "opencv-qr"
    tool = Tool(
        "qr-code-reading", "reads the QR code in a picture and gives its text", (Param("image", "image"),), "text"
    )
    card = Card(licence="Apache-2.0", speed="instant")

    def run(self, args, run):
        """The code's text; ExpertError when the picture holds none."""
        import cv2

        run.check()
        picture = cv2.imread(str(args["image"]))
        if picture is None:
            raise InputError("The picture cannot be read; attach a PNG or JPEG.")
        text, corners, _ = cv2.QRCodeDetector().detectAndDecode(picture)
        if corners is None or not text:
            raise ExpertError("There is no readable QR code in the picture.")
        return [Output.text(text, "code")]


def experts():
    """What the entry point names: both experts."""
    return [MakeQR, ReadQR]
