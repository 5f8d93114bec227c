package emulator

import (
	"slices"
	"strings"
)

// apiVersions are the served versions, the oldest first.
var apiVersions = []string{"7.3", "7.4", "7.5", "7.6", newestVersion}

const newestVersion = "2025-07-01"

// since76 are the algorithms that came with API 7.6, as did attestation.
var since76 = []string{ckmKeyWrap, ckmKeyWrapPad, "HS256", "HS384", "HS512"}

// checkAPIVersion refuses a version that is not served, and operations that a served
// version does not have yet.
func checkAPIVersion(given []string, operation string) error {
	if len(given) == 0 {
		return badParameter("The request must have the query parameter api-version, one of %s.",
			strings.Join(apiVersions, ", "))
	}
	if !slices.Contains(apiVersions, given[0]) {
		return badParameter("The specified version (%s) is not recognized. Consider using one of %s.",
			given[0], strings.Join(apiVersions, ", "))
	}
	if operation == opAttestation && before76(given[0]) {
		return badParameter("Method GET does not allow operation 'attestation' in version %s.", given[0])
	}
	return nil
}

// checkAlgorithm refuses an algorithm that the version does not have yet.
func checkAlgorithm(algorithm, apiVersion string) error {
	if before76(apiVersion) && slices.Contains(since76, algorithm) {
		return badParameter("The algorithm %q is not known in version %s.", algorithm, apiVersion)
	}
	return nil
}

func before76(apiVersion string) bool { return before(apiVersion, "7.6") }

// before75: the attributes exportable (of a vault's key that is not) and hsmPlatform
// came with 7.5.
func before75(apiVersion string) bool { return before(apiVersion, "7.5") }

// before: no version means the newest.
func before(apiVersion, other string) bool {
	return apiVersion != "" && slices.Index(apiVersions, apiVersion) < slices.Index(apiVersions, other)
}
