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

func TestItRefusesAFlagThatCouldNotWork(t *testing.T) {
	const vault = "--vault=contoso-weu.vault.azure.net=premium"
	for _, args := range [][]string{
		{},
		{"--vault=contoso-weu.vault.azure.net"},
		{vault, "--proxy=0.0.0.0:0"},
		{vault, "--admin=192.0.2.1:0"},
		{vault, "--fail=nonsense"},
		{vault, "--purge-protection=other.vault.azure.net"},
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
