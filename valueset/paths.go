package valueset

// Paths returns the datasets whose chunks belong to sets: the rows of every class
// and the nodes.
func Paths() []string {
	paths := []string{nodesPath}
	for _, n := range classes {
		paths = append(paths, classPath(n))
	}
	return paths
}
