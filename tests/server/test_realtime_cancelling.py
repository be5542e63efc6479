"""What ``/v1/realtime`` makes of a client that wants to hear no more, without a server."""

import pytest
from realtime_support import LOUD, OF_A_RESPONSE, SILENT, Talk, kinds, of

from duplex.events import UserSpeechStarted
from duplex.server.wires.base import Interrupt


@pytest.mark.parametrize("how", ["response.cancel", "conversation.item.truncate", "output_audio_buffer.clear"])
def test_the_rest_of_a_response_is_not_heard(how):
    talk = Talk()
    talk.play(LOUD, LOUD)
    item = of(talk.told, "conversation.item.added")[0]["item"]["id"]
    told = talk.send(type=how, item_id=item, content_index=0, audio_end_ms=100)
    assert Interrupt() in talk.actions
    assert of(told, "response.done")[0]["response"]["status"] == "cancelled"
    assert kinds(told)[-1] == {"conversation.item.truncate": "conversation.item.truncated"}.get(how, "response.done")
    talk.say(" unheard")
    assert talk.play(LOUD, *[SILENT] * 5) == []
    assert kinds(talk.speak(" again")) == OF_A_RESPONSE


@pytest.mark.parametrize("how", ["response.cancel", "output_audio_buffer.clear"])
@pytest.mark.parametrize("claimed", [False, True])
def test_a_response_that_is_about_to_begin_is_not_heard(how, claimed):
    """Its first sound has been sent to nobody: one more frame would tell that it is speech."""
    talk = Talk()
    if claimed:
        talk.send(type="response.create", response={"metadata": {"topic": "t"}})
    talk.say(" unheard")
    talk.play(SILENT, LOUD)
    told = talk.send(type=how)
    assert Interrupt() in talk.actions
    if claimed or how == "response.cancel":
        created, done = told
        assert (created["type"], done["response"]["status"]) == ("response.created", "cancelled")
        assert done["response"]["status_details"]["reason"] == "client_cancelled"
        assert done["response"]["metadata"] == ({"topic": "t"} if claimed else None)
    else:
        assert told == []
    talk.say(" unheard")
    assert talk.play(LOUD, LOUD, *[SILENT] * 5) == []
    again = talk.speak(" again")
    assert kinds(again) == OF_A_RESPONSE
    assert of(again, "response.output_audio_transcript.done")[0]["transcript"] == "again"


def test_a_user_who_begins_together_with_the_agent_cuts_it_off_where_that_is_asked_for():
    polite = Talk()
    polite.play(LOUD)
    assert "input_audio_buffer.speech_started" in kinds(polite.tell(UserSpeechStarted, probability=0.9))
    assert kinds(polite.play(LOUD, *[SILENT] * 5)) == OF_A_RESPONSE
    eager = Talk(audio={"input": {"turn_detection": {"type": "server_vad", "interrupt_response": True}}})
    eager.play(LOUD)
    assert "input_audio_buffer.speech_started" in kinds(eager.tell(UserSpeechStarted, probability=0.9))
    assert eager.play(LOUD, LOUD) == []


def test_a_sound_that_was_no_speech_is_none_to_cancel():
    talk = Talk()
    talk.play(LOUD, SILENT, SILENT)
    (error,) = talk.send(type="response.cancel")
    assert error["error"]["code"] == "response_cancel_not_active"
    assert kinds(talk.speak(" word")) == OF_A_RESPONSE


def test_what_has_ended_can_be_truncated_and_not_cancelled():
    talk = Talk()
    item = of(talk.speak(" done"), "conversation.item.done")[0]["item"]["id"]
    (told,) = talk.send(type="conversation.item.truncate", item_id=item, content_index=0, audio_end_ms=1)
    assert told["type"] == "conversation.item.truncated"
    (error,) = talk.send(type="response.cancel")
    assert error["error"]["code"] == "response_cancel_not_active"
    assert error["error"]["message"].startswith("Cancellation failed")  # which clients look for
