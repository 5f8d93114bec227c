package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestItSaysHowToBeUsedAndEndsWhenTold(t *testing.T) {
	ca := filepath.Join(t.TempDir(), "ca.pem")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	read, write := io.Pipe()
	cmd := newCommand()
	cmd.SetOut(write)
	cmd.SetArgs([]string{"--proxy", "127.0.0.1:0", "--ca-out", ca, "--vault", "contoso-weu.vault.azure.net=premium", "--fail", "op=import,count=1,drop=after"})
	ended := make(chan error, 1)
	go func() { ended <- cmd.ExecuteContext(ctx) }()
	var said []string
	for lines := bufio.NewScanner(read); lines.Scan(); {
		said = append(said, lines.Text())
		if lines.Text() == "ready" {
			break
		}
	}
	text := strings.Join(said, "\n")
	for _, want := range []string{"export HTTPS_PROXY=http://127.0.0.1:", "export SSL_CERT_FILE=" + ca, "https://contoso-weu.vault.azure.net (premium)"} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in\n%s", want, text)
		}
	}
	if pem, err := os.ReadFile(ca); err != nil || !strings.HasPrefix(string(pem), "-----BEGIN CERTIFICATE") {
		t.Errorf("authority: %v", err)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestItTakesEveryFlag(t *testing.T) {
	const host = "contoso-weu.vault.azure.net"
	given := map[string][]string{
		"vault": {host + "=premium"}, "purge-protection": {host}, "retention": {host + "=7"}, "access": {host + "=roles"},
		"role": {host + "=id:crypto-officer:/keys/k"}, "policy": {host + "=id:get"}, "firewall": {host + "=192.0.2.0/24,trusted-services"},
		"identity": {"id=192.0.2.1"}, "role-delay": {"1m"}, "state": {"file"}, "service-limits": {"true"}, "attestation-firmware": {"3"},
		"consumer": {"storage=sa,key=https://" + host + "/keys/k"}, "consumer-speed": {"1440"},
	}
	cmd := newCommand()
	for name, values := range given {
		for _, value := range values {
			if err := cmd.Flags().Set(name, value); err != nil {
				t.Error(err)
			}
		}
	}
	var s settings
	s.vaults = []string{host + "=premium"}
	s.perHost = hostFlags{
		protect: []string{host}, retention: []string{host + "=7"}, access: []string{host + "=roles"},
		roles: []string{host + "=id:crypto-officer:/keys/k"}, policies: []string{host + "=id:get"}, firewalls: []string{host + "=192.0.2.0/24,trusted-services"},
	}
	s.extras = serviceFlags{identities: []string{"id=192.0.2.1"}, firmware: 3, limits: true, stateFile: "file",
		consumers: given["consumer"], consumerSpeed: 1440}
	opts, err := s.options(io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	c := opts.Vaults[0]
	if !c.PurgeProtection || c.RecoverableDays != 7 || len(c.Roles) != 1 || len(c.Policies) != 1 || !c.Firewall.TrustedServices ||
		len(opts.Identities) != 1 || !opts.ServiceLimits || opts.StateFile != "file" ||
		len(opts.Consumers) != 1 || opts.ConsumerSpeed != 1440 {
		t.Errorf("%+v", opts)
	}
}

func TestItRefusesAFlagThatCouldNotWork(t *testing.T) {
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
		{vault, "--identity=someone"},
		{vault, "--attestation-firmware=4"},
		{vault, "--consumer=storage=sa"},
		{vault, "--consumer=queue=q,key=https://contoso-weu.vault.azure.net/keys/k"},
		{vault, "--consumer=storage=sa,key=https://other.vault.azure.net/keys/k"},
		{vault, "--consumer-speed=0"},
		{vault, "--identity-listen=0.0.0.0:0"},
		{vault, "--state=/dev/null/state"},
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
