package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyd-project/keyd/internal/emulator"
)

// said runs the emulator until it is ready, ends it, and returns its output.
func said(t *testing.T, args ...string) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read, write := io.Pipe()
	cmd := newCommand()
	cmd.SetOut(write)
	cmd.SetArgs(append([]string{"--proxy", "127.0.0.1:0", "--vault", "contoso-weu.vault.azure.net=premium"}, args...))
	ended := make(chan error, 1)
	go func() { ended <- errors.Join(cmd.ExecuteContext(ctx), write.Close()) }()
	var said []string
	for lines := bufio.NewScanner(read); lines.Scan(); {
		said = append(said, lines.Text())
		if lines.Text() == "ready" {
			break
		}
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	return strings.Join(said, "\n")
}

func TestTheEmulatorPrintsHowToUseItAndEndsOnASignal(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	text := said(t, "--ca-out", ca, "--fail", "op=import,count=1,drop=after")
	for _, want := range []string{"export HTTPS_PROXY=http://127.0.0.1:", "export SSL_CERT_FILE=" + ca,
		"https://contoso-weu.vault.azure.net (premium)"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if strings.Contains(text, "IDENTITY_ENDPOINT") {
		t.Errorf("it names an endpoint that it has not:\n%s", text)
	}
	if pem, err := os.ReadFile(ca); err != nil || !strings.HasPrefix(string(pem), "-----BEGIN CERTIFICATE") {
		t.Errorf("authority: %v", err)
	}
}

// The words before the variables say which platform sets them: two variables share a name.
func TestTheEmulatorPrintsHowAWorkloadFindsItsIdentity(t *testing.T) {
	const appService = `(?s)in App Service, with this besides:\n  export ` +
		`IDENTITY_ENDPOINT=http://127\.0\.0\.1:\d+/msi/token\n  export IDENTITY_HEADER=\w+\n`
	const arc = `Or as one on an Azure Arc machine:\n  export ` +
		`IDENTITY_ENDPOINT=http://127\.0\.0\.1:\d+/metadata/identity/oauth2/token\n  export ` +
		`IMDS_ENDPOINT=http://127\.0\.0\.1:\d+\n`
	ca, keys := "--ca-out="+filepath.Join(t.TempDir(), "ca.pem"), "--arc-key-dir="+t.TempDir()
	alone, both := said(t, ca, "--identity-listen=127.0.0.1:0"), said(t, ca, "--identity-listen=127.0.0.1:0", keys)
	for _, test := range []struct {
		text, pattern string
		has           bool
	}{{alone, appService, true}, {alone, arc, false}, {both, appService + arc, true}} {
		if regexp.MustCompile(test.pattern).MatchString(test.text) != test.has {
			t.Errorf("%s: want %v in\n%s", test.pattern, test.has, test.text)
		}
	}
}

func TestTheEmulatorAcceptsEveryFlag(t *testing.T) {
	const host = "contoso-weu.vault.azure.net"
	certificate := filepath.Join(t.TempDir(), "ca.pem")
	said(t, "--ca-out", certificate)
	var s settings
	cmd := commandFor(&s)
	for name, value := range map[string]string{
		"vault": host + "=premium", "purge-protection": host, "retention": host + "=7", "access": host + "=roles",
		"role": host + "=id:crypto-officer:/keys/k", "policy": host + "=id:get",
		"firewall": host + "=192.0.2.0/24,trusted-services",
		"identity": "id=192.0.2.1", "role-delay": "1m", "state": "file", "service-limits": "true",
		"attestation-firmware": "3", "key-list": "oldest", "subscription": host + "=one",
		"consumer": "storage=sa,key=https://" + host + "/keys/k", "consumer-speed": "1440",
		"certificate": "id=" + certificate,
		"location":    host + "=northeurope", "azure-role": "id:Reader:/", "resource-roles": "true", "log-delay": "0s",
		"ca-key": "authority", "hsm-without-date": "true", "identity-listen": "127.0.0.1:0", "arc-key-dir": "keys",
	} {
		if err := cmd.Flags().Set(name, value); err != nil {
			t.Error(err)
		}
	}
	opts, err := s.options(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c := opts.Vaults[0]
	if !c.PurgeProtection || c.RecoverableDays != 7 || len(c.Roles) != 1 || len(c.Policies) != 1 ||
		!c.Firewall.TrustedServices || c.Subscription != "one" || c.Location != "northeurope" ||
		opts.LogDelay >= 0 || len(opts.AzureRoles) != 1 || !opts.ResourceRoles ||
		len(opts.Identities) != 1 || opts.RoleDelay != time.Minute || !opts.ServiceLimits ||
		opts.StateFile != "file" || opts.AuthorityFile != "authority" ||
		opts.AttestationFirmware != emulator.Firmware3 || len(opts.Consumers) != 1 || opts.ConsumerSpeed != 1440 ||
		len(opts.Certificates) != 1 || !opts.HSMWithoutDate || opts.IdentityListen != "127.0.0.1:0" ||
		opts.ArcKeyDir != "keys" || opts.KeyList != emulator.OldestListed {
		t.Errorf("%+v", opts)
	}
}

func TestTheEmulatorRefusesAFlagThatCannotWork(t *testing.T) {
	const vault = "--vault=contoso-weu.vault.azure.net=premium"
	for _, args := range [][]string{
		{},
		{"--vault=contoso-weu.vault.azure.net"},
		{vault, "--proxy=0.0.0.0:0"},
		{vault, "--admin=192.0.2.1:0"},
		{vault, "--fail=nonsense"},
		{vault, "--purge-protection=other.vault.azure.net"},
		{vault, "--retention=contoso-weu.vault.azure.net=soon"},
		{vault, "--access=contoso-weu.vault.azure.net=closed"},
		{vault, "--role=contoso-weu.vault.azure.net=id:reader"},
		{vault, "--policy=contoso-weu.vault.azure.net=id:everything", "--access=contoso-weu.vault.azure.net=policies"},
		{vault, "--firewall=contoso-weu.vault.azure.net=here"},
		{vault, "--firewall=other.vault.azure.net=192.0.2.1"},
		{vault, "--azure-role=someone"},
		{vault, "--azure-role=someone:Queen:/"},
		{vault, "--identity=someone"},
		{vault, "--attestation-firmware=4"},
		{vault, "--key-list=random"},
		{vault, "--certificate=someone"},
		{vault, "--certificate=someone=/nonexistent"},
		{vault, "--arc-key-dir=keys"},
		{vault, "--consumer=storage=sa"},
		{vault, "--consumer=queue=q,key=https://contoso-weu.vault.azure.net/keys/k"},
		{vault, "--consumer=storage=sa,key=https://other.vault.azure.net/keys/k"},
		{vault, "--consumer-speed=0"},
		{vault, "--identity-listen=0.0.0.0:0"},
		{vault, "--state=/dev/null/state"},
		{vault, "--ca-key=/dev/null/authority"},
		{vault, "--proxy=127.0.0.1:0", "--ca-out=/dev/null/ca.pem"},
	} {
		cmd := newCommand()
		cmd.SetOut(io.Discard)
		cmd.SetErr(io.Discard)
		cmd.SetArgs(append([]string{"--ca-out=" + filepath.Join(t.TempDir(), "ca.pem")}, args...))
		if err := cmd.ExecuteContext(t.Context()); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
}
