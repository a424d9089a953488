//! Each setting, and the test that sees what it does: a file of this repository and
//! the name of a function in it.

/// The keys of the shipped files of configuration.
pub(super) const KEYS: &[(&str, &str)] = &[
    ("broker mode", "tests/src/village.rs::variables"),
    (
        "broker database.url",
        "tests/tests/stores/spools.rs::t121_postgresql_switched_on_over_the_spool_of_sqlite_is_refused",
    ),
    (
        "broker database.url_file",
        "tests/tests/operations/roles.rs::the_services_work_with_roles_that_may_do_what_they_need_and_nothing_else",
    ),
    (
        "broker database.migrate_url_file",
        "tests/tests/operations/roles.rs::the_services_work_with_roles_that_may_do_what_they_need_and_nothing_else",
    ),
    (
        "broker listen.http",
        "tests/tests/cli/up.rs::warrant_up_honours_the_files_of_its_state_directory",
    ),
    (
        "broker listen.public_url",
        "tests/tests/flux/auth.rs::the_realm_is_the_public_url_where_one_is_configured",
    ),
    (
        "broker listen.address_file",
        "tests/src/house.rs::start_broker",
    ),
    (
        "broker listen.socket",
        "tests/tests/proxy.rs::t131_the_shipped_nginx_names_each_client_whatever_the_client_says",
    ),
    (
        "broker listen.admin",
        "tests/tests/operations/metrics.rs::t136_the_admin_listener_is_apart_from_the_main_one_and_of_this_machine_alone",
    ),
    (
        "broker listen.proxies",
        "tests/tests/proxy.rs::t131_headers_that_name_a_client_count_from_proxies_alone",
    ),
    (
        "broker listen.proxy_protocol",
        "tests/tests/proxy.rs::t131_both_services_take_the_proxy_protocol_from_proxies_alone",
    ),
    (
        "broker listen.tls.certificate",
        "tests/tests/tls.rs::t109_certificates_are_replaced_under_load_and_no_request_is_lost",
    ),
    (
        "broker listen.tls.key",
        "tests/tests/tls.rs::a_broker_with_half_of_tls_does_not_start",
    ),
    ("broker auth.socket", "tests/src/house.rs::start_authsvc"),
    (
        "broker auth.issuer",
        "tests/tests/access/issuer.rs::a_broker_that_is_told_an_issuer_takes_no_other",
    ),
    (
        "broker auth.required",
        "tests/tests/settings/one_user.rs::who_must_log_in",
    ),
    (
        "broker spool.dir",
        "tests/tests/operations/readonly.rs::t132_a_broker_whose_spool_is_on_a_read_only_disk_does_not_start",
    ),
    ("broker shim.socket", "tests/src/village.rs::variables"),
    (
        "broker shim.audience",
        "tests/tests/settings/many_users.rs::what_the_services_and_the_shim_are_told_of_each_other_in_multi_user_mode",
    ),
    ("broker shim.spool", "tests/src/village.rs::variables"),
    (
        "broker shim.warrants",
        "tests/tests/village/warrants.rs::client_only_with",
    ),
    ("broker engine.shim", "tests/src/house.rs::variables"),
    (
        "broker engine.cores",
        "tests/tests/settings/one_user.rs::what_jobs_may_have",
    ),
    (
        "broker engine.gpus",
        "tests/tests/flux/settings.rs::flux_has_gpus_lets_jobs_ask_for_them",
    ),
    (
        "broker engine.grace_ms",
        "tests/tests/engine/limits.rs::a_job_that_does_not_heed_the_warning_is_killed_after_the_grace",
    ),
    (
        "broker engine.output_cap_mib",
        "tests/tests/engine/writing.rs::output_beyond_the_cap_is_dropped_and_the_job_is_not_held_up",
    ),
    (
        "broker engine.env_passthrough",
        "tests/tests/cli/up.rs::warrant_up_honours_the_files_of_its_state_directory",
    ),
    (
        "broker flux.nodes",
        "tests/tests/settings/one_user.rs::what_jobs_may_have",
    ),
    (
        "broker flux.has_gpus",
        "tests/tests/settings/one_user.rs::what_jobs_may_have",
    ),
    (
        "broker flux.option_flags",
        "tests/tests/settings/one_user.rs::what_jobs_may_have",
    ),
    (
        "broker flux.legacy_job",
        "tests/tests/settings/one_user.rs::what_jobs_may_have",
    ),
    (
        "broker flux.launchers",
        "tests/tests/flux/submit.rs::a_launcher_is_run_if_it_is_one",
    ),
    (
        "broker stop.grace_s",
        "tests/tests/flux/service.rs::a_job_that_outlasts_the_stopping_service_lives_on_and_is_taken_up_again",
    ),
    (
        "broker limits.requests_per_minute",
        "tests/tests/access/limits.rs::t111_a_user_has_so_many_requests_a_minute_and_others_are_not_concerned",
    ),
    (
        "broker limits.unauthenticated_per_minute",
        "tests/tests/access/limits.rs::t111_who_proves_nothing_has_few_requests_and_hinders_nobody_who_does",
    ),
    (
        "broker limits.connections",
        "tests/tests/access/limits.rs::t111_one_source_has_so_many_connections",
    ),
    (
        "broker limits.connections_per_source",
        "tests/tests/access/limits.rs::t111_one_source_has_so_many_connections",
    ),
    (
        "broker limits.readers_per_user",
        "tests/tests/reading.rs::t128_a_user_with_as_many_readers_as_there_may_be_gets_429_and_others_are_served",
    ),
    (
        "broker limits.in_flight_mib",
        "tests/tests/reading.rs::t128_readers_that_do_not_read_leave_room_in_flight_for_others",
    ),
    (
        "broker limits.write_timeout_s",
        "tests/tests/reading.rs::t128_a_client_that_does_not_read_is_disconnected_at_the_deadline",
    ),
    (
        "broker limits.queued_jobs",
        "tests/tests/shares.rs::t129_one_who_fills_the_queue_gets_429_and_others_are_served",
    ),
    (
        "broker limits.queued_mib",
        "tests/tests/shares.rs::t129_definitions_have_shares_of_their_bytes",
    ),
    (
        "broker limits.idempotency_keys",
        "tests/tests/access/idempotency.rs::each_user_has_a_share_of_keys_also_after_a_restart",
    ),
    ("authsvc mode", "tests/src/village.rs::variables"),
    (
        "authsvc backend",
        "tests/tests/settings/one_user.rs::who_must_log_in",
    ),
    (
        "authsvc backends",
        "tests/tests/settings/one_user.rs::how_people_log_in",
    ),
    (
        "authsvc shared_secret_file",
        "tests/tests/operations/check.rs::secrets_come_from_credentials_of_the_unit",
    ),
    (
        "authsvc admin_users",
        "tests/tests/settings/one_user.rs::how_people_log_in",
    ),
    (
        "authsvc operator_users",
        "tests/tests/settings/one_user.rs::how_people_log_in",
    ),
    (
        "authsvc admin_groups",
        "tests/tests/settings/many_users.rs::what_the_services_and_the_shim_are_told_of_each_other_in_multi_user_mode",
    ),
    (
        "authsvc operator_groups",
        "tests/tests/settings/many_users.rs::what_the_services_and_the_shim_are_told_of_each_other_in_multi_user_mode",
    ),
    (
        "authsvc database.url",
        "tests/tests/operations/readonly.rs::t132_a_service_whose_database_is_on_a_read_only_disk_does_not_start",
    ),
    (
        "authsvc database.url_file",
        "tests/tests/operations/roles.rs::the_services_work_with_roles_that_may_do_what_they_need_and_nothing_else",
    ),
    (
        "authsvc database.migrate_url_file",
        "tests/tests/operations/roles.rs::the_services_work_with_roles_that_may_do_what_they_need_and_nothing_else",
    ),
    (
        "authsvc listen.socket",
        "authsvc/src/tests/limits.rs::the_socket_has_its_mode_and_goes_with_the_service",
    ),
    (
        "authsvc listen.socket_mode",
        "authsvc/src/tests/limits.rs::the_socket_has_its_mode_and_goes_with_the_service",
    ),
    (
        "authsvc listen.tcp",
        "tests/tests/cli.rs::warrant_up_speaks_tls_and_says_how_clients_come_to_believe_it",
    ),
    (
        "authsvc listen.proxies",
        "tests/tests/proxy.rs::t131_headers_that_name_a_client_count_from_proxies_alone",
    ),
    (
        "authsvc listen.proxy_protocol",
        "tests/tests/proxy.rs::t131_both_services_take_the_proxy_protocol_from_proxies_alone",
    ),
    (
        "authsvc listen.tls.certificate",
        "tests/tests/tls.rs::t109_certificates_are_replaced_under_load_and_no_request_is_lost",
    ),
    (
        "authsvc listen.tls.key",
        "tests/tests/tls.rs::t109_certificates_are_replaced_under_load_and_no_request_is_lost",
    ),
    (
        "authsvc listen.tls.client_ca",
        "authsvc/src/tests/certificates.rs::t103_a_certificate_is_judged_at_each_use_of_the_connection_it_was_shown_on",
    ),
    (
        "authsvc listen.tls.client_crl",
        "authsvc/src/tests/certificates.rs::t103_a_certificate_is_judged_at_each_use_of_the_connection_it_was_shown_on",
    ),
    (
        "authsvc keys.dir",
        "tests/tests/operations/check.rs::nothing_is_made_by_looking",
    ),
    (
        "authsvc keys.activation_s",
        "tests/tests/village/rotation.rs::t26_t109_ten_rotations_of_both_keys_under_load_lose_no_request",
    ),
    (
        "authsvc tokens.issuer",
        "tests/tests/access/issuer.rs::the_issuer_is_the_servers_url_unless_another_one_is_set",
    ),
    (
        "authsvc tokens.minutes",
        "tests/tests/settings/one_user.rs::how_long_what_people_get_lasts",
    ),
    (
        "authsvc api_keys.max_days",
        "authsvc/src/tests/lasting.rs::t123_no_key_is_good_for_more_or_for_longer_than_the_site_allows",
    ),
    (
        "authsvc api_keys.default_days",
        "authsvc/src/tests/lasting.rs::t123_no_key_is_good_for_more_or_for_longer_than_the_site_allows",
    ),
    (
        "authsvc api_keys.per_user",
        "authsvc/src/tests/api_keys.rs::a_key_that_cannot_be_made_is_refused_by_the_name_of_the_field",
    ),
    (
        "authsvc api_keys.per_minute",
        "authsvc/src/tests/lasting.rs::t123_a_user_makes_no_more_keys_in_a_minute_than_configured",
    ),
    (
        "authsvc api_keys.scopes",
        "authsvc/src/tests/lasting.rs::t123_no_key_is_good_for_more_or_for_longer_than_the_site_allows",
    ),
    (
        "authsvc oauth.password_grant",
        "authsvc/src/tests/oauth/token.rs::the_password_grant_can_be_switched_off_and_the_login_form_stays",
    ),
    (
        "authsvc oauth.access_minutes",
        "tests/tests/settings/one_user.rs::how_long_what_people_get_lasts",
    ),
    (
        "authsvc oauth.refresh_days",
        "tests/tests/settings/one_user.rs::how_long_what_people_get_lasts",
    ),
    (
        "authsvc oauth.url",
        "tests/tests/access/issuer.rs::the_issuer_is_the_servers_url_unless_another_one_is_set",
    ),
    (
        "authsvc oauth.dpop_nonce",
        "authsvc/src/tests/dpop.rs::where_nonces_are_needed_a_proof_has_one_of_this_server",
    ),
    (
        "authsvc oauth.mtls_url",
        "authsvc/src/tests/certificates.rs::a_user_logs_in_by_certificate",
    ),
    (
        "authsvc certificates.from",
        "tests/tests/tls.rs::with_certificates",
    ),
    (
        "authsvc web.idle_hours",
        "authsvc/src/tests/web/sign_in.rs::a_session_ends_when_it_is_not_used_and_in_the_end_in_any_case",
    ),
    (
        "authsvc web.max_days",
        "authsvc/src/tests/web/sign_in.rs::a_session_ends_when_it_is_not_used_and_in_the_end_in_any_case",
    ),
    (
        "authsvc passwords.memory_kib",
        "tests/tests/settings/one_user.rs::how_passwords_are_hashed",
    ),
    (
        "authsvc passwords.passes",
        "tests/tests/settings/one_user.rs::how_passwords_are_hashed",
    ),
    (
        "authsvc passwords.lanes",
        "tests/tests/settings/one_user.rs::how_passwords_are_hashed",
    ),
    (
        "authsvc passwords.parallel",
        "tests/tests/access/floods.rs::t100_of_a_thousand_logins_at_once_each_is_told_and_memory_is_bounded",
    ),
    (
        "authsvc passwords.queue",
        "tests/tests/access/floods.rs::t100_of_a_thousand_logins_at_once_each_is_told_and_memory_is_bounded",
    ),
    (
        "authsvc accounts.min_uid",
        "tests/tests/settings/many_users.rs::whose_jobs_run_in_multi_user_mode",
    ),
    (
        "authsvc accounts.max_uid",
        "tests/tests/settings/many_users.rs::whose_jobs_run_in_multi_user_mode",
    ),
    (
        "authsvc warrants.mode",
        "tests/tests/village/warrants.rs::client_only_with",
    ),
    (
        "authsvc warrants.proof",
        "tests/tests/village/warrants.rs::client_only_with",
    ),
    (
        "authsvc warrants.audiences",
        "tests/tests/settings/many_users.rs::what_the_services_and_the_shim_are_told_of_each_other_in_multi_user_mode",
    ),
    (
        "authsvc warrants.life_s",
        "authsvc/src/tests/warrants.rs::the_life_of_a_warrant_is_configured",
    ),
    (
        "authsvc warrants.per_second",
        "authsvc/src/tests/lasting.rs::t122_a_user_has_no_more_warrants_in_a_second_than_configured",
    ),
    (
        "authsvc warrants.keys_dir",
        "authsvc/tests/commands.rs::t16_a_key_of_warrants_that_signs_logins_too_stops_the_start",
    ),
    (
        "authsvc warrants.activation_s",
        "tests/tests/village/rotation.rs::t26_t109_ten_rotations_of_both_keys_under_load_lose_no_request",
    ),
    (
        "authsvc warrants.broker_user",
        "authsvc/src/tests/multi_user.rs::a_service_that_does_not_know_its_broker_does_not_start",
    ),
    (
        "authsvc warrants.broker_uid",
        "authsvc/src/tests/warrants.rs::in_mediated_mode_the_broker_alone_exchanges_tokens",
    ),
    ("authsvc pam.socket", "authsvc/tests/pam.rs::start_service"),
    ("authsvc pam.service", "authsvc/tests/pam.rs::start_service"),
    (
        "authsvc pam.parallel",
        "authsvc/src/tests/throttle.rs::whoever_finds_no_place_to_wait_is_answered_503_at_once",
    ),
    (
        "authsvc pam.queue",
        "authsvc/src/tests/throttle.rs::whoever_finds_no_place_to_wait_is_answered_503_at_once",
    ),
    (
        "authsvc handshake.max_age_s",
        "tests/tests/settings/one_user.rs::how_people_log_in",
    ),
    (
        "authsvc handshake.strict",
        "authsvc/src/tests/passwords.rs::t102_in_strict_mode_a_payload_has_a_time_and_an_id_and_counts_once",
    ),
    (
        "authsvc superuser.name",
        "tests/tests/settings/one_user.rs::how_people_log_in",
    ),
    (
        "authsvc superuser.password_file",
        "tests/tests/settings/one_user.rs::how_people_log_in",
    ),
    (
        "shim broker_user",
        "shim/tests/shim/serving/checks.rs::the_broker_must_be_an_account_and_not_root",
    ),
    (
        "shim broker_group",
        "shim/tests/shim/serving/checks.rs::the_broker_must_be_an_account_and_not_root",
    ),
    (
        "shim keeper_user",
        "shim/tests/shim/serving/checks.rs::keepers_must_have_an_account_of_no_other_use",
    ),
    (
        "shim issuer",
        "tests/tests/settings/many_users.rs::what_the_services_and_the_shim_are_told_of_each_other_in_multi_user_mode",
    ),
    (
        "shim audience",
        "tests/tests/settings/many_users.rs::what_the_services_and_the_shim_are_told_of_each_other_in_multi_user_mode",
    ),
    (
        "shim keys",
        "shim/tests/shim/warrants.rs::t14_a_key_signs_for_its_own_id_only",
    ),
    ("shim socket", "tests/src/village.rs::start_shim"),
    ("shim spool", "tests/src/village.rs::start_shim"),
    (
        "shim state",
        "shim/tests/shim/journal.rs::t21_what_was_committed_is_there_after_a_restart",
    ),
    (
        "shim min_uid",
        "shim/tests/keeper/identity.rs::t28_user_ids_outside_the_range_are_refused",
    ),
    (
        "shim max_uid",
        "shim/tests/keeper/identity.rs::t28_user_ids_outside_the_range_are_refused",
    ),
    (
        "shim deny_users",
        "tests/tests/settings/many_users.rs::whose_jobs_run_in_multi_user_mode",
    ),
    (
        "shim deny_groups",
        "shim/tests/keeper/identity.rs::t36_members_of_denied_groups_are_refused_or_lose_them",
    ),
    (
        "shim denied_group",
        "shim/tests/keeper/identity.rs::t36_members_of_denied_groups_are_refused_or_lose_them",
    ),
    (
        "shim locked",
        "shim/tests/keeper/identity.rs::t39_locked_passwords_are_the_policys_to_judge",
    ),
    (
        "shim nologin",
        "shim/tests/keeper/identity.rs::t40_shells_that_let_nobody_in_are_refused_unless_allowed",
    ),
    (
        "shim pam",
        "shim/tests/keeper/session.rs::t39_whom_the_account_phase_turns_away_is_refused_and_told_nothing",
    ),
    (
        "shim no_new_privs",
        "shim/tests/keeper/files.rs::t63_setuid_programs_gain_nothing_unless_the_policy_lets_them",
    ),
    (
        "shim cgroup",
        "shim/tests/keeper/processes.rs::t82_a_job_at_its_limits_is_held_there_and_says_so",
    ),
    (
        "shim path",
        "tests/tests/settings/many_users.rs::what_jobs_get_in_multi_user_mode",
    ),
    (
        "shim umask",
        "tests/tests/settings/many_users.rs::what_jobs_get_in_multi_user_mode",
    ),
    (
        "shim max_processes",
        "tests/tests/settings/many_users.rs::what_jobs_get_in_multi_user_mode",
    ),
    (
        "shim max_pids",
        "shim/tests/keeper/processes.rs::t69_a_fork_bomb_is_bounded_and_ended",
    ),
    (
        "shim max_time_s",
        "tests/tests/settings/many_users.rs::what_jobs_get_in_multi_user_mode",
    ),
    (
        "shim max_output_bytes",
        "tests/tests/settings/many_users.rs::what_jobs_get_in_multi_user_mode",
    ),
    (
        "shim max_memory_bytes",
        "shim/tests/shim/policy.rs::limits_are_bound_by_the_policy",
    ),
    (
        "shim max_admitted",
        "shim/tests/shim/serving/starting.rs::t129_each_user_may_have_half_of_the_admissions_that_others_leave",
    ),
    (
        "shim max_admitted_bytes",
        "shim/tests/shim/serving/starting.rs::t129_each_user_may_have_half_of_the_admissions_that_others_leave",
    ),
];

/// The variables that the README documents.
pub(super) const VARIABLES: &[(&str, &str)] = &[
    ("FLUX_USER", "tests/src/house.rs::admin"),
    ("FLUX_TOKEN", "tests/src/house.rs::admin"),
    (
        "FLUX_SECRET_KEY",
        "tests/tests/flux/auth.rs::the_misspelt_name_of_the_secret_counts_too",
    ),
    (
        "FLUX_SECREY_KEY",
        "tests/tests/flux/auth.rs::the_misspelt_name_of_the_secret_counts_too",
    ),
    (
        "FLUX_REQUIRE_AUTH",
        "tests/tests/flux/settings.rs::flux_require_auth_switches_authentication_on_and_off",
    ),
    (
        "FLUX_AUTH_BACKEND",
        "tests/tests/flux/settings.rs::flux_auth_backend_counts_before_flux_require_auth",
    ),
    (
        "FLUX_PAM_SERVICE",
        "authsvc/tests/pam.rs::the_variable_names_the_service_of_pam",
    ),
    (
        "FLUX_OIDC_ISSUER",
        "authsvc/src/tests/oidc.rs::the_provider_may_be_named_by_the_variables_of_the_flux_server",
    ),
    (
        "FLUX_OIDC_AUDIENCE",
        "authsvc/src/tests/oidc.rs::the_provider_may_be_named_by_the_variables_of_the_flux_server",
    ),
    (
        "FLUX_OIDC_JWKS_URL",
        "authsvc/src/config/dropin/provider.rs::the_variables_make_a_provider",
    ),
    (
        "FLUX_OIDC_USERNAME_CLAIM",
        "authsvc/src/tests/oidc.rs::the_provider_may_be_named_by_the_variables_of_the_flux_server",
    ),
    (
        "FLUX_OIDC_CLIENT_ID",
        "authsvc/src/config/dropin/provider.rs::the_variables_make_a_provider",
    ),
    (
        "FLUX_OIDC_CLIENT_SECRET_FILE",
        "authsvc/src/config/dropin/provider.rs::the_variables_make_a_provider",
    ),
    (
        "FLUX_MIN_UID",
        "authsvc/tests/pam.rs::the_variables_bound_whose_passwords_count",
    ),
    (
        "FLUX_MAX_UID",
        "authsvc/tests/pam.rs::the_right_password_of_an_account_out_of_range_is_told_what_is_the_matter",
    ),
    (
        "FLUX_ADMIN_USERS",
        "tests/tests/flux/service.rs::a_superuser_by_name_may_stop_the_service",
    ),
    (
        "FLUX_OPERATOR_USERS",
        "tests/tests/access/walk/people.rs::house",
    ),
    (
        "FLUX_ACCESS_TOKEN_EXPIRES_MINUTES",
        "tests/tests/flux/settings.rs::flux_access_token_expires_minutes_is_the_life_of_a_token",
    ),
    ("FLUX_SERVER_MODE", "tests/system/up.py::refusals"),
    (
        "FLUX_NUMBER_NODES",
        "tests/tests/flux/settings.rs::flux_number_nodes_does_not_make_several_machines_of_one",
    ),
    (
        "FLUX_HAS_GPUS",
        "tests/tests/flux/settings.rs::flux_has_gpus_lets_jobs_ask_for_them",
    ),
    (
        "FLUX_HAS_GPU",
        "tests/tests/flux/settings.rs::flux_has_gpus_lets_jobs_ask_for_them",
    ),
    (
        "FLUX_OPTION_FLAGS",
        "tests/tests/flux/settings.rs::flux_option_flags_are_the_defaults_that_a_job_overrides",
    ),
    ("FLUX_JOB_ENV_PASSTHROUGH", "tests/system/up.py::settings"),
    (
        "FLUX_LEGACY_JOB",
        "tests/tests/flux/settings.rs::flux_legacy_job_adds_the_wrapped_form_to_every_job",
    ),
    (
        "HOST",
        "tests/tests/cli/up.rs::warrant_up_listens_at_host_and_port_unless_an_option_says_otherwise",
    ),
    (
        "PORT",
        "tests/tests/cli/up.rs::warrant_up_listens_at_host_and_port_unless_an_option_says_otherwise",
    ),
];
