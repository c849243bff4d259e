"""Each way in which the service was attacked has tests of its own: which, and that they are there."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
SERVING, API, FLEET = "integration/serving/", "integration/api/", "integration/fleet/"

ROWS = {
    "F0 another user of the machine asks workers, stores and the local cloud": (
        f"{FLEET}test_strangers.py::test_another_user_of_the_machine_reads_and_runs_nothing",
        f"{FLEET}test_strangers.py::test_only_whoever_has_the_services_certificates_is_heard",
        "integration/test_devcloud_strangers.py::test_without_a_signature_nothing_is_answered",
    ),
    "F1 headers without end": (
        f"{SERVING}test_limits_while_parsing.py::test_what_does_not_end_is_refused_while_it_arrives",
        f"{SERVING}test_limits_while_parsing.py::test_more_header_lines_than_any_client_sends_are_refused",
    ),
    "F10 headers and texts that take long to read": (
        "unit/test_patterns.py::test_patterns_read_in_linear_time",
        "unit/test_foreign_text.py::test_json_that_is_too_deep_is_none",
        "contract/test_job_store.py::test_a_forged_page_mark_is_refused",
    ),
    "F2 clients that are slow on purpose": (
        f"{SERVING}test_time_limits.py::test_headers_that_come_byte_by_byte_are_408",
        f"{SERVING}test_time_limits.py::test_a_response_that_is_not_read_is_let_go",
        f"{SERVING}test_many_connections.py::test_one_address_may_have_so_many_connections",
        (
            f"{SERVING}test_slow_readers.py"
            "::test_a_client_behind_a_proxy_has_only_so_many_responses_that_it_does_not_read"
        ),
        f"{SERVING}test_nginx.py::test_one_client_has_only_so_many_responses_of_nginx_at_a_time",
    ),
    "F3 no descriptors left": (
        (
            f"{SERVING}test_many_connections.py"
            "::test_when_descriptors_run_out_the_store_and_operators_still_have_some"
        ),
    ),
    "F4 a worker's answers as pickles": (
        f"{FLEET}test_strangers.py::test_a_worker_that_was_taken_over_runs_nothing_here",
        "unit/test_unpickling.py::test_every_forgery_is_refused_and_nothing_is_done",
    ),
    "F5 names that resolve slowly": (
        "unit/test_resolver.py::test_while_slow_names_are_waited_for_others_resolve_and_files_are_read",
    ),
    "F6 trailers as headers": (f"{SERVING}test_limits_while_parsing.py::test_a_trailer_is_no_header",),
    "F7 one requester's slow sources hold all workers": (
        (
            "integration/test_fairness.py"
            "::test_a_third_file_starts_next_beside_500_files_of_one_and_500_slow_ones_of_another"
        ),
        (
            "integration/sources/test_sources_fetch.py"
            "::test_a_slow_source_is_given_up_at_its_second_connection_however_much_came"
        ),
        "unit/test_source_hosts.py::test_tries_of_all_files_of_a_host_count_until_one_works",
        "unit/test_settings.py::test_one_requester_leaves_a_worker_to_others_if_there_can_be_others",
    ),
    "F8 a broken file tried again and again": (
        f"{API}test_api_cold_path.py::test_a_failed_file_is_tried_again_only_so_often",
    ),
    "F9 bodies that are held before anybody is asked for a key": (
        f"{API}test_body_limits.py::test_where_a_key_is_needed_nothing_is_read_before_it_is_there",
        f"{API}test_body_limits.py::test_more_than_a_call_takes_is_413_while_it_arrives",
        f"{API}test_body_limits.py::test_without_a_key_a_batch_has_the_bytes_of_the_files_that_it_may_name",
    ),
    "M1 what no store can hold": (
        f"{API}test_api_catalog.py::test_what_no_store_can_hold_is_422_and_costs_an_import_only_its_line",
        f"{API}test_api_catalog.py::test_of_a_list_with_one_entry_that_no_store_can_hold_none_is_stored",
        f"{API}test_api_catalog.py::test_an_import_stores_the_good_lines_and_names_the_bad",
    ),
    "M2 addresses shown to everybody, read by any page": (
        f"{API}test_api_catalog.py::test_of_an_address_everybody_sees_scheme_and_host",
        f"{API}test_addresses_of_failures.py::test_everybody_reads_the_host_in_a_failure_and_the_admin_all",
        (
            f"{API}test_addresses_of_failures.py"
            "::test_whoever_shares_content_with_a_hidden_file_reads_nothing_of_why_it_failed"
        ),
        f"{API}test_api_catalog.py::test_an_address_with_a_password_is_refused_and_stored_nowhere",
        f"{API}test_origins.py::test_listings_and_writes_are_refused_to_pages_elsewhere",
        f"{API}test_origins.py::test_a_name_that_somebody_made_point_here_is_refused",
        "browser/test_other_pages.py::test_a_page_elsewhere_reads_a_public_remote_file_and_no_list",
    ),
    "M3 sockets of the host inside the sandbox": (
        (
            "integration/processing/test_system_call_filter.py"
            "::test_a_socket_of_another_program_on_this_machine_is_out_of_reach"
        ),
        (
            "integration/processing/test_sandbox_files.py"
            "::test_a_socket_of_the_machine_is_out_of_reach_without_the_filter_too"
        ),
    ),
    "M4 event streams": (
        "unit/test_job_watch.py::test_three_hundred_followers_ask_the_store_once",
        f"{API}test_fair_shares.py::test_event_streams_of_one_requester_are_bounded_and_given_back",
    ),
    "M5 bytes behind a request": (
        f"{SERVING}test_limits_while_parsing.py::test_bytes_behind_a_request_do_not_disturb_its_response",
        f"{SERVING}test_limits_while_parsing.py::test_bytes_behind_a_long_response_do_not_get_into_it",
    ),
    "M6 raw bytes": (
        f"{API}test_api_cold_path.py::test_a_range_of_nothing_is_416_with_the_size_that_upstream_tells",
        f"{API}test_api_cold_path.py::test_an_answer_to_what_was_not_asked_is_502",
        f"{API}test_api_cold_path.py::test_larger_files_than_are_fetched_are_not_passed_on",
        f"{API}test_fair_shares.py::test_raw_responses_of_one_requester_are_bounded_and_given_back",
        f"{API}test_fair_shares.py::test_raw_bytes_count_too",
    ),
    "M7 a worker that was taken over writes where it likes": (
        "integration/test_attempt_credentials.py::test_an_attempt_reads_and_adds_below_its_own_prefix",
        (
            "integration/test_attempt_credentials.py"
            "::test_a_worker_that_was_taken_over_can_neither_replace_nor_delete_nor_publish"
        ),
        ("unit/test_manifest_verification.py::test_of_a_worker_that_is_confined_parts_of_any_size_are_read"),
    ),
    "M8 one customer with many addresses, many with one": (
        "unit/test_api_edge.py::test_all_addresses_of_one_customer_are_one_client",
        "unit/test_api_edge.py::test_the_client_is_counted_from_the_right",
        f"{API}test_api_cold_path.py::test_a_clients_own_forwarding_headers_are_not_believed",
    ),
    "M9 wrong keys, nothing written of what was done, certificates that end": (
        f"{API}test_wrong_keys.py::test_many_wrong_keys_are_refused_and_the_right_one_is_not",
        f"{API}test_wrong_keys.py::test_what_is_done_with_the_admin_key_is_logged",
        f"{API}test_api_keys.py::test_the_audit_log_says_who_did_what_with_what_outcome",
        f"{API}test_api_keys.py::test_the_audit_log_has_each_read_that_is_the_admin_s_alone",
        f"{API}test_api_keys.py::test_the_audit_log_has_who_read_what_is_not_public_once_an_hour",
        "unit/test_certificate_expiry.py::test_doctor_tells_when_certificates_end",
        "unit/test_certificate_expiry.py::test_the_log_and_the_metrics_tell_and_a_replaced_file_is_seen",
    ),
    "L Host, HEAD, descriptions": (
        f"{SERVING}test_limits_while_parsing.py::test_a_request_names_its_host_once",
        f"{API}test_openapi.py::test_allow_lists_exactly_what_a_path_knows_and_head_is_where_get_is",
        f"{API}test_openapi.py::test_no_answer_differs_from_its_description",
    ),
    "– bad lengths, silence, a byte a second upstream": (
        f"{SERVING}test_limits_while_parsing.py::test_two_lengths_or_a_length_beside_chunks_are_refused",
        "integration/sources/test_sources_fetch.py::test_headers_that_never_come_are_given_up",
        "integration/sources/test_sources_fetch.py::test_a_body_that_only_drips_is_given_up",
        "integration/sources/test_sources_fetch.py::test_an_endless_body_ends_at_the_limit",
    ),
    "– probes and metrics, whose work was done for each who asked": (
        "integration/test_readiness.py::test_however_many_ask_the_dependencies_are_asked_once_a_second",
        (
            "integration/test_readiness.py"
            "::test_however_many_read_the_metrics_running_jobs_are_read_once_a_second"
        ),
    ),
    "– the database's own words in /readyz": (
        (
            "integration/test_readiness.py"
            "::test_strangers_read_nothing_of_the_databases_own_words_and_the_log_has_them"
        ),
    ),
    "all of them, beside honest clients": (
        f"{SERVING}test_attacks.py::test_whoever_attacks_gets_refusals_and_others_their_bytes",
        f"{SERVING}test_attacks.py::test_during_an_attack_others_wait_at_most_three_times_as_long",
    ),
}


@pytest.mark.parametrize("row", ROWS)
def test_each_attack_has_a_test_of_its_own(row: str) -> None:
    for test in ROWS[row]:
        path, _, name = test.partition("::")
        module = ast.parse((TESTS / path).read_text(encoding="utf-8"))
        names = {
            node.name for node in module.body if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        }
        assert name in names, test
