# 002_b648347f3a2097f7.txt, cell 1
import multiprocessing

def square(n):
    """Calculates the square of a number."""
    return n * n

if __name__ == "__main__":
    # Create a process
    p = multiprocessing.Process(target=square, args=(5,))

    # Start the process
    p.start()

    # Wait for the process to finish
    p.join()

    print("Process finished.")
