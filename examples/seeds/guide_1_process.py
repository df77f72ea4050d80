# 003_c003194a68d6ccb9.txt, Example 1
import multiprocessing
import time
import os
def worker_function(name: str, duration: int):
    """A simple function that simulates work."""
    pid = os.getpid()
    print(f"Process {name} (PID: {pid}) has started.")
    time.sleep(duration) # Simulate a CPU-bound or I/O-bound task
    print(f"Process {name} (PID: {pid}) has finished after {duration} seconds.")
if __name__ == "__main__":
    print(f"Main process (PID: {os.getpid()}) starting.")
    # Create two Process objects
    # The 'target' argument is the function to run in the new process.
    # The 'args' argument is a tuple of arguments to pass to the target function.
    p1 = multiprocessing.Process(target=worker_function, args=("Worker 1", 2))
    p2 = multiprocessing.Process(target=worker_function, args=("Worker 2", 3))
    # Start the processes
    print("Starting processes...")
    p1.start()
    p2.start()
    # Wait for both processes to complete before the main script continues
    print("Main process waiting for workers to finish...")
    p1.join()
    p2.join()
    print("All processes have finished. Main process exiting.")
