"""Server-sent events as the HTML standard frames them."""

from gooseherd.client.sse import ServerEvent, parse_events


def test_an_event_ends_at_the_empty_line() -> None:
    lines = ["event: job", "data: {}", "id: 7", "", "data: next", ""]
    assert list(parse_events(lines)) == [ServerEvent("{}", "job", "7"), ServerEvent("next", "message", "7")]


def test_data_of_many_lines_is_joined() -> None:
    assert [event.data for event in parse_events(["data: a", "data: b", "data:", ""])] == ["a\nb\n"]


def test_comments_keep_the_connection_and_say_nothing() -> None:
    assert not list(parse_events([": ping", "", ": ping", ""]))


def test_an_event_that_the_end_cuts_off_is_not_dispatched() -> None:
    assert not list(parse_events(["data: half"]))


def test_only_one_space_after_the_colon_is_taken_away() -> None:
    assert [event.data for event in parse_events(["data:  two", "data:none", ""])] == [" two\nnone"]


def test_unknown_fields_and_event_names_without_data_are_ignored() -> None:
    assert not list(parse_events(["retry: 10", "event: job", "", "nonsense", ""]))
