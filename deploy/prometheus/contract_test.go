package prometheus_test

// contract lists keyd's metrics, each with its labels.
func contract() map[string][]string {
	return map[string][]string{
		"keyd_build_info":                    {"version", "goversion"},
		"keyd_ready":                         nil,
		"keyd_config_last_reload_successful": nil,
		"keyd_config_last_reload_success_timestamp_seconds": nil,

		"keyd_key_generation":                      {"key"},
		"keyd_key_held":                            {"key", "code"},
		"keyd_key_next_rotation_timestamp_seconds": {"key"},
		"keyd_key_last_rotation_timestamp_seconds": {"key"},
		"keyd_key_partial":                         {"key"},
		"keyd_rotations_total":                     {"key", "outcome"},
		"keyd_steps_total":                         {"step", "outcome"},
		"keyd_step_duration_seconds":               {"step"},
		"keyd_rotation_started_timestamp_seconds":  {"key"},
		"keyd_step_failures":                       {"key"},

		"keyd_placements": {"key", "vault", "state"},
		"keyd_proof_last_success_timestamp_seconds": {"key", "vault", "age"},
		"keyd_proof_last_result":                    {"key", "vault", "age"},
		"keyd_proofs_total":                         {"key", "vault", "outcome", "leg"},
		"keyd_proof_expected_interval_seconds":      {"age"},
		"keyd_proof_duration_seconds":               {"vault"},
		"keyd_drift":                                {"key", "vault", "kind"},

		"keyd_vault_up":                          {"vault"},
		"keyd_vault_last_seen_timestamp_seconds": {"vault"},
		"keyd_vault_requests_total":              {"vault", "operation", "code"},
		"keyd_vault_request_duration_seconds":    {"vault", "operation"},
		"keyd_vault_throttled_total":             {"vault"},
		"keyd_vault_clock_skew_seconds":          {"vault"},

		"keyd_hsm_up":                    nil,
		"keyd_hsm_degraded":              nil,
		"keyd_hsm_restarts_total":        nil,
		"keyd_hsm_pin_refused":           nil,
		"keyd_hsm_call_duration_seconds": {"call"},

		"keyd_store_healthy":                nil,
		"keyd_store_write_duration_seconds": nil,
		"keyd_store_writes_total":           {"outcome"},
		"keyd_audit_entries":                nil,
	}
}
