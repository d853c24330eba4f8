"""What is written can be read."""

from anyloom_qr import MakeQR, ReadQR

from anyloom.tools.contracts import Run


def test_there_and_back(tmp_path):
    (code,) = MakeQR().run({"text": "https://example.org/?a=1"}, Run())
    (tmp_path / code.file_name).write_bytes(code.data)
    (text,) = ReadQR().run({"image": tmp_path / code.file_name}, Run())
    assert text.data == b"https://example.org/?a=1"
