package main

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"
)

// manDir is where make man wants the manual pages.
var manDir = flag.String("man", "", "`folder` to write the manual pages to")

// TestManPages makes a manual page of every command.
func TestManPages(t *testing.T) {
	dir := *manDir
	if dir == "" {
		dir = t.TempDir()
	} else {
		must(t, os.MkdirAll(dir, 0o777))
	}
	root := new(program).root()
	root.DisableAutoGenTag = true
	forManual(root)
	must(t, doc.GenManTree(root, &doc.GenManHeader{Source: "cidstore", Manual: "CIDStore"}, dir))
	for _, c := range root.Commands() {
		if !c.IsAvailableCommand() {
			continue
		}
		name := strings.ReplaceAll(c.CommandPath(), " ", "-") + ".1"
		page, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Error(err)
		} else if !strings.Contains(string(page), c.Short) {
			t.Errorf("%s does not say what the command does", name)
		}
	}
}

// forManual keeps the lines of a help text that are set in columns as they are: as
// Markdown, which the pages are made of, wants it.
func forManual(c *cobra.Command) {
	paragraphs := strings.Split(c.Long, "\n\n")
	for i, p := range paragraphs {
		if strings.Contains(p, "\n  ") {
			paragraphs[i] = "```\n" + p + "\n```"
		}
	}
	c.Long = strings.Join(paragraphs, "\n\n")
	for _, child := range c.Commands() {
		forManual(child)
	}
}
