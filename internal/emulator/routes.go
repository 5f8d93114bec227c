package emulator

import (
	"net/http"
	"strings"
)

// target is what a request's path and method mean.
type target struct {
	operation, key, version string

	scope string // of a Managed HSM's roles
}

// parseTarget reads the path. An empty version, as in /keys/n/ or
// /keys/n//wrapkey, is the newest.
func parseTarget(method, path string) target {
	if t, ok := localRoleTarget(method, path); ok {
		return t
	}
	segments := strings.Split(strings.Trim(path, "/"), "/")
	if segments[0] == "deletedkeys" {
		return deletedTarget(method, segments)
	}
	if segments[0] == "rng" && len(segments) == 1 {
		return withMethod(method, target{}, map[string]string{http.MethodPost: opRandom})
	}
	if segments[0] != "keys" {
		return target{}
	}
	switch len(segments) {
	case 1:
		return withMethod(method, target{}, map[string]string{http.MethodGet: opList})
	case 2:
		if method == http.MethodPost && segments[1] == "restore" {
			return target{operation: opRestore}
		}
		return withMethod(method, target{key: segments[1]}, map[string]string{
			http.MethodGet: opGet, http.MethodPut: opImport, http.MethodPatch: opUpdate, http.MethodDelete: opDelete,
		})
	case 3:
		return pathWord(method, segments[1], "", segments[2])
	case 4:
		return pathWord(method, segments[1], segments[2], segments[3])
	}
	return target{}
}

// pathWord reads /keys/n/WORD and /keys/n/version/WORD, where WORD is an
// operation or, in the first form, a version.
func pathWord(method, key, version, word string) target {
	t := target{key: key, version: version}
	posts := map[string]string{
		"wrapkey": opWrap, "unwrapkey": opUnwrap, "encrypt": opEncrypt,
		"decrypt": opDecrypt, "sign": opSign, "verify": opVerify, "release": opRelease,
	}
	gets := map[string]string{"attestation": opAttestation}
	puts := map[string]string{}
	if version == "" {
		posts["create"], posts["rotate"], posts["backup"] = opCreate, opRotate, opBackup
		gets["versions"], gets["rotationpolicy"] = opVersions, opRotation
		puts["rotationpolicy"] = opSetRotation
	}
	word = strings.ToLower(word)
	if posts[word]+gets[word]+puts[word] != "" {
		return withMethod(method, t, map[string]string{
			http.MethodPost: posts[word], http.MethodGet: gets[word], http.MethodPut: puts[word],
		})
	}
	if version != "" {
		return target{key: key}
	}
	t.version = word
	return withMethod(method, t, map[string]string{http.MethodGet: opGet, http.MethodPatch: opUpdate})
}

func deletedTarget(method string, segments []string) target {
	switch {
	case len(segments) == 1:
		return withMethod(method, target{}, map[string]string{http.MethodGet: opListDeleted})
	case len(segments) == 2:
		return withMethod(method, target{key: segments[1]},
			map[string]string{http.MethodGet: opGetDeleted, http.MethodDelete: opPurge})
	case len(segments) == 3 && segments[2] == "recover":
		return withMethod(method, target{key: segments[1]}, map[string]string{http.MethodPost: opRecover})
	}
	return target{}
}

func withMethod(method string, t target, operations map[string]string) target {
	t.operation = operations[method]
	return t
}
