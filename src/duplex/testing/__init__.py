"""What tests need: a model without weights, and conformance suites for whoever writes a backend or a transport.

    from duplex.testing import check_frame_model, check_transport, fake_model

    def test_my_backend():
        check_frame_model(lambda capacity: MyFrameModel(sessions=capacity))

    @pytest.mark.anyio
    async def test_my_transport():
        await check_transport(lambda: MyTransport("question.wav"))

    @pytest.mark.anyio
    async def test_my_application():
        with fake_model(capacity=2) as model:
            async with duplex.Conversation(model) as conversation:
                events = [event async for event in conversation.run(pcm)]

Nothing here needs weights, torch or pytest. A check that fails raises an ``AssertionError`` that says what was wrong.
"""

from duplex.testing.fake import FakeTokenizer, LevelVoiceActivity, fake_model
from duplex.testing.fake_codec import FakeCodec
from duplex.testing.fake_frame_model import FakeFrameModel
from duplex.testing.frame_models import check_frame_model
from duplex.testing.transports import check_transport

__all__ = [
    "FakeCodec",
    "FakeFrameModel",
    "FakeTokenizer",
    "LevelVoiceActivity",
    "check_frame_model",
    "check_transport",
    "fake_model",
]
