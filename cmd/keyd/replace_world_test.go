package main

import (
	"context"
	"time"

	"github.com/keyd-project/keyd/internal/control"
	"github.com/keyd-project/keyd/internal/status"
)

// Replacements shows one that would follow, or one that has begun in the world of that name.
func (w *world) Replacements(_ context.Context, o control.ReplaceOptions) ([]status.Replacement, error) {
	switch {
	case w.refusal != nil:
		return nil, w.refusal
	case o.Key == "" && !w.replaced:
		return nil, nil
	case o.Vault == "away":
		return nil, &control.UsageError{
			Text: "vault away is not in the configuration. Write under vaults:\n\n" +
				"  away: {url: https://HOST}\n\nand under keys:, besides the old key:\n\n" +
				"  sa-cmk-key-2: {spec: RSA-4096, vaults: [away]}\n\nThen: keyd reload",
		}
	case o.With == "unknown":
		return nil, &control.RefusedError{Text: "key unknown is not in the configuration"}
	}
	x := status.Replacement{Key: "sa-cmk-key", With: "sa-cmk-key-2", Vault: "clean", Digest: "sha256:5e",
		Consumers: []status.ReplacedConsumer{
			{ID: "/s/st", Name: "stcmkdemo", Service: "storage account", State: "to move", From: "weu", To: "clean"},
			{ID: "/s/ai", Name: "ai-1", Service: "AI services account", State: "by hand", From: "weu", To: "weu",
				Why: "the configuration does not name it", Command: "az cognitiveservices account update --name ai-1"},
		},
		Versions: []status.ReplacedVersion{
			{Vault: "weu", Generation: 1, Version: "4f1d3b6c8a2e4d0f9b7c5a3e1d0f2b4c"},
		},
		Steps: []status.ReplaceStep{{Step: "the new key is active", Done: true},
			{Step: "the consumers are set to it", Left: "stcmkdemo (to move)"}},
		Notes: []string{"AI services account ai-1 cannot leave vault weu"},
	}
	if w.replaced {
		x.Begun, x.By, x.Reason = time.Date(2026, 3, 1, 11, 0, 0, 0, time.UTC), "uid 0 (root)", "a stolen backup"
		x.Notes, x.MayConsent, x.Consumers = nil, true, x.Consumers[:1]
		x.Consumers[0].State = "works"
	}
	return []status.Replacement{x}, nil
}

// Replace records nothing.
func (w *world) Replace(_ context.Context, _, _ string, o control.ReplaceOptions) error {
	if w.refusal != nil {
		return w.refusal
	}
	return w.has(o.Key)
}
