package main

import (
	"fmt"
	"runtime"

	"github.com/cidstore/cidstore"
	"github.com/spf13/cobra"
)

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version of cidstore",
		Args:  arguments(0, 0),
		RunE: func(*cobra.Command, []string) error {
			return p.result(struct {
				Version string `json:"version"`
				Go      string `json:"go"`
				OS      string `json:"os"`
				Arch    string `json:"arch"`
			}{cidstore.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH},
				"%s", versionLine())
		},
	}
}

func versionLine() string {
	return fmt.Sprintf("cidstore %s %s %s/%s", cidstore.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
}
